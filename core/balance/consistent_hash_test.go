package balance

import (
	"hash/fnv"
	"math"
	"math/bits"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Other values than these would move every client of a running system to another member. They were computed by a second
// implementation, in another language.
func TestHashesAndPicksNeverChange(t *testing.T) {
	require.Equal(t, uint64(0xf52a15e9a9b5e89b), HashKey(nil))
	require.Equal(t, uint64(0x02c0bdbf481420f8), HashKey([]byte("a")))
	require.Equal(t, uint64(0x38b3fd2438251cb2), HashKey([]byte("client-1")))
	even := build(t, "consistent_hash", equalMembers(5))
	uneven := build(t, "consistent_hash", membersOf(1, 2, 3, 4, 5))
	var pickedEven, pickedUneven []int
	for k := range 20 {
		pickedEven = append(pickedEven, even.Pick(keyOf(k)))
		pickedUneven = append(pickedUneven, uneven.Pick(keyOf(k)))
	}
	require.Equal(t, []int{3, 1, 0, 1, 1, 4, 3, 0, 0, 3, 4, 3, 1, 1, 0, 3, 1, 2, 0, 4}, pickedEven)
	require.Equal(t, []int{3, 1, 0, 1, 3, 4, 3, 0, 2, 3, 4, 3, 1, 3, 0, 3, 1, 2, 3, 4}, pickedUneven)
}

// With very many members each has few slots: their shares differ, but not by much.
func TestSlotsAreSharedByVeryManyMembers(t *testing.T) {
	const n = 1000
	counts := picks(build(t, "consistent_hash", equalMembers(n)), n, 300*n)
	for i, count := range counts {
		require.InDelta(t, 300, count, 300, "member %d", i)
	}
}

// A pick that finds its slot used takes the same member as the one that has found it out.
func TestPicksThatAreLookedUpAreTheSame(t *testing.T) {
	members := membersOf(5, 1, 3, 9)
	picker := build(t, "consistent_hash", members)
	for k := range 5000 {
		first := picker.Pick(keyOf(k))
		require.Equal(t, first, picker.Pick(keyOf(k)))
		require.Equal(t, first, build(t, "consistent_hash", members).Pick(keyOf(k)))
	}
}

// The sum that the caller keeps is as good as that of the counters.
func TestTheBoundTakesTheCallersSum(t *testing.T) {
	members := equalMembers(4)
	total := &atomic.Int64{}
	kept, err := New("consistent_hash", members, total)
	require.NoError(t, err)
	added := build(t, "consistent_hash", members)
	for k := range 400 {
		i := kept.Pick(keyOf(7))
		require.Equal(t, added.Pick(keyOf(7)), i, "request %d", k)
		members[i].Active.Add(1)
		total.Add(1)
	}
}

func TestHashKeyIsFinalisedFNV(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOf(rapid.Byte()).Draw(t, "key")
		reference := fnv.New64a()
		_, _ = reference.Write(key)
		require.Equal(t, mix(reference.Sum64()), HashKey(key))
	})
}

// Each bit of a key changes each bit of its hash in about half of the cases. For FNV-1a alone some never change.
func TestEveryBitOfAKeyReachesEveryBitOfTheHash(t *testing.T) {
	const keys, length = 2000, 8
	for flipped := range length * 8 {
		var changes [64]int
		for k := range keys {
			key := [length]byte{'c', 'l', 'i', 'e', 'n', 't', byte(k >> 8), byte(k)}
			before := HashKey(key[:])
			key[flipped/8] ^= 1 << (flipped % 8)
			for changed := before ^ HashKey(key[:]); changed != 0; changed &= changed - 1 {
				changes[bits.TrailingZeros64(changed)]++
			}
		}
		for bit, count := range changes {
			// 8 standard deviations of a fair coin.
			require.InDelta(t, keys/2, count, 8*math.Sqrt(keys)/2, "bit %d of the key, bit %d of the hash", flipped, bit)
		}
	}
}

func TestHashesInARowAreSpread(t *testing.T) {
	picker := build(t, "consistent_hash", equalMembers(10))
	counts, weights := make([]int, 10), make([]int, 10)
	for hash := range uint64(30_000) {
		counts[picker.Pick(hash)]++
	}
	for i := range weights {
		weights[i] = 1
	}
	requireShares(t, weights, counts)
}

func TestOneThatLeavesMovesOnlyItsOwnHashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := membersOf(rapid.SliceOfN(rapid.IntRange(1, 9), 2, 12).Draw(t, "weights")...)
		leaver := rapid.IntRange(0, len(members)-1).Draw(t, "leaver")
		all := build(t, "consistent_hash", members)
		rest := slices.Delete(slices.Clone(members), leaver, leaver+1)
		without := build(t, "consistent_hash", rest)
		tried := make([]bool, len(members))
		tried[leaver] = true
		for k := range 300 {
			before, after := members[all.Pick(keyOf(k))].Key, rest[without.Pick(keyOf(k))].Key
			if before != members[leaver].Key {
				require.Equal(t, before, after)
			}
			// A request that finds it dead goes where its hash will go once it has left.
			require.Equal(t, after, members[all.Next(keyOf(k), tried)].Key)
		}
	})
}

func TestTheHashesOfOneThatLeavesGoToAllOthers(t *testing.T) {
	members := equalMembers(6)
	all, without := build(t, "consistent_hash", members), build(t, "consistent_hash", members[:5])
	counts := make([]int, 5)
	for k := range 60_000 {
		if all.Pick(keyOf(k)) == 5 {
			counts[without.Pick(keyOf(k))]++
		}
	}
	requireShares(t, []int{1, 1, 1, 1, 1}, counts)
}

func TestAWeightMovesHashesOnlyToOrFromItsMember(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := weightsUpTo(9).Draw(t, "weights")
		changed := rapid.IntRange(0, len(weights)-1).Draw(t, "changed")
		old := build(t, "consistent_hash", membersOf(weights...))
		grows := rapid.IntRange(1, 9).Draw(t, "grows")
		weights[changed] += grows
		grown := build(t, "consistent_hash", membersOf(weights...))
		for k := range 300 {
			if before, after := old.Pick(keyOf(k)), grown.Pick(keyOf(k)); before != after {
				require.Equal(t, changed, after)
			}
		}
	})
}

// Slow start gives all weights in another unit; that alone must not move a hash.
func TestTheUnitOfTheWeightsDoesNotMatter(t *testing.T) {
	weights := []int{1, 2, 3, 3}
	ramped := make([]int, len(weights))
	for i, weight := range weights {
		ramped[i] = Ramp(weight, 1, 0)
	}
	one, other := build(t, "consistent_hash", membersOf(weights...)), build(t, "consistent_hash", membersOf(ramped...))
	for k := range 5000 {
		require.Equal(t, one.Pick(keyOf(k)), other.Pick(keyOf(k)))
	}
}

func TestTheOrderOfTheMembersDoesNotMatter(t *testing.T) {
	members := membersOf(1, 2, 3, 3)
	turned := slices.Clone(members)
	slices.Reverse(turned)
	one, other := build(t, "consistent_hash", members), build(t, "consistent_hash", turned)
	for k := range 5000 {
		require.Equal(t, members[one.Pick(keyOf(k))].Key, turned[other.Pick(keyOf(k))].Key)
	}
}

func TestNoMemberIsLoadedAboveItsBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := membersOf(weightsUpTo(9).Draw(t, "weights")...)
		picker := build(t, "consistent_hash", members)
		sum := 0
		for _, member := range members {
			sum += member.Weight
		}
		// Few clients: without the bound, one member would carry most of it.
		clients := rapid.IntRange(1, 4).Draw(t, "clients")
		for inFlight := range 400 {
			i := picker.Pick(keyOf(inFlight % clients))
			bound := (5*(inFlight+1)*members[i].Weight + 4*sum - 1) / (4 * sum)
			require.LessOrEqual(t, members[i].Active.Add(1), int64(bound))
		}
	})
}

func TestAHashComesBackWhenItsMemberHasRoom(t *testing.T) {
	members := equalMembers(4)
	picker := build(t, "consistent_hash", members)
	owner := picker.Pick(keyOf(1))
	members[owner].Active.Store(2) // of 3 it may have 1
	second := picker.Pick(keyOf(1))
	require.NotEqual(t, owner, second)
	tried := make([]bool, 4)
	tried[owner] = true
	require.Equal(t, second, picker.Next(keyOf(1), tried), "the next score")
	members[owner].Active.Store(0)
	require.Equal(t, owner, picker.Pick(keyOf(1)))
}

// Of 4 requests it may have 2, of the 3 without the one that is picked for only 1.
func TestTheBoundCountsTheRequestItself(t *testing.T) {
	members := equalMembers(4)
	picker := build(t, "consistent_hash", members)
	owner := picker.Pick(keyOf(1))
	for _, i := range []int{owner, (owner + 1) % 4, (owner + 2) % 4} {
		members[i].Active.Store(1)
	}
	require.Equal(t, owner, picker.Pick(keyOf(1)))
}

func TestReplacementsKeepToTheBoundWhileOneHasRoom(t *testing.T) {
	members := equalMembers(4)
	picker := build(t, "consistent_hash", members)
	tried := make([]bool, 4)
	tried[picker.Pick(keyOf(1))] = true
	second := picker.Next(keyOf(1), tried)
	members[second].Active.Store(5)
	third := picker.Next(keyOf(1), tried)
	require.NotEqual(t, second, third)
	tried[third] = true
	fourth := picker.Next(keyOf(1), tried)
	tried[fourth] = true
	require.Equal(t, second, picker.Next(keyOf(1), tried), "loaded, but the only one left")
}
