package balance

import (
	"math"
	"math/rand/v2"
	"sort"
)

// shares divides the range [0, total) among the members by weight: member i has [starts[i], starts[i]+weight).
type shares struct {
	starts []uint64
	total  uint64
	even   uint64 // the weight that all have, or 0 if they differ; saves the search
	alias  aliasTable
}

func newShares(members []Member) shares {
	s := shares{starts: make([]uint64, len(members)), even: uint64(members[0].Weight)}
	for i, member := range members {
		s.starts[i] = s.total
		s.total += uint64(member.Weight)
		if uint64(member.Weight) != s.even {
			s.even = 0
		}
	}
	if s.even == 0 {
		s.alias = newAliasTable(members, s.total)
	}
	return s
}

// at returns the member that owns a position below total.
func (s *shares) at(position uint64) int {
	if s.even != 0 {
		return int(position / s.even)
	}
	return sort.Search(len(s.starts), func(i int) bool { return s.starts[i] > position }) - 1
}

func (s *shares) weight(i int) uint64 {
	if i+1 < len(s.starts) {
		return s.starts[i+1] - s.starts[i]
	}
	return s.total - s.starts[i]
}

// draw returns a member with a probability in proportion to its weight.
func (s *shares) draw() int {
	if s.even != 0 {
		return rand.IntN(len(s.starts))
	}
	return s.alias.draw()
}

// aliasTable draws by weight with one random number and two loads (Vose, "A Linear Algorithm for Generating Random Numbers
// with a Given Distribution", 1991): each column holds its own member up to its share and another one above it.
type aliasTable []struct {
	share uint32 // of the column, in 2^-32
	other int32
}

func newAliasTable(members []Member, total uint64) aliasTable {
	n := uint64(len(members))
	table := make(aliasTable, n)
	left := make([]uint64, n) // in units of total/n
	var small, large []int
	for i, member := range members {
		left[i] = uint64(member.Weight) * n
		if left[i] < total {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	for len(small) > 0 && len(large) > 0 {
		i, j := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		table[i].share, table[i].other = uint32(float64(left[i])/float64(total)*(1<<32)), int32(j)
		if left[j] -= total - left[i]; left[j] < total {
			large = large[:len(large)-1]
			small = append(small, j)
		}
	}
	for _, i := range append(small, large...) { // full, but for rounding
		table[i].share, table[i].other = math.MaxUint32, int32(i)
	}
	return table
}

func (t aliasTable) draw() int {
	random := rand.Uint64()
	column := int(random >> 32 * uint64(len(t)) >> 32)
	if uint32(random) < t[column].share {
		return column
	}
	return int(t[column].other)
}

// drawOther does the same among all but one, or returns -1 if there is no other.
func (s *shares) drawOther(than int) int {
	if len(s.starts) == 1 {
		return -1
	}
	for range 4 {
		if other := s.draw(); other != than {
			return other
		}
	}
	// It has most of the weight: cut its range out.
	weight := s.weight(than)
	if weight == s.total {
		return -1
	}
	position := rand.Uint64N(s.total - weight)
	if position >= s.starts[than] {
		position += weight
	}
	return s.at(position)
}

// drawUntried does the same among those that are not marked in tried, nor the one at skip. It returns -1 if none is
// left. It walks over all members: it serves retries, which are few.
func (s *shares) drawUntried(tried []bool, skip int) int {
	total := uint64(0)
	for i, done := range tried {
		if !done && i != skip {
			total += s.weight(i)
		}
	}
	if total == 0 {
		return -1
	}
	position := rand.Uint64N(total)
	for i, done := range tried {
		if done || i == skip {
			continue
		}
		if weight := s.weight(i); position >= weight {
			position -= weight
			continue
		}
		return i
	}
	return -1
}

// anyUntried returns one of those that are not marked in tried, each with the same probability, or -1.
func anyUntried(tried []bool) int {
	left := 0
	for _, done := range tried {
		if !done {
			left++
		}
	}
	if left == 0 {
		return -1
	}
	left = rand.IntN(left)
	for i, done := range tried {
		if done {
			continue
		}
		if left == 0 {
			return i
		}
		left--
	}
	return -1
}
