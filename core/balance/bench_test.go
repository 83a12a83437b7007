package balance

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkPick measures one pick. The weights differ, so that no strategy is on its short way for equal ones, and all
// members are busy.
func BenchmarkPick(b *testing.B) {
	for _, strategy := range Names() {
		for _, n := range []int{10, 1000} {
			members := equalMembers(n)
			for i := range members {
				members[i].Weight = 1 + i%5
				members[i].Active.Store(int64(2 * members[i].Weight))
			}
			total := &atomic.Int64{}
			for _, member := range members {
				total.Add(member.Active.Load())
			}
			picker, err := New(strategy, members, total)
			require.NoError(b, err)
			for hash := range uint64(1 << 18) { // a pool soon knows all slots
				picker.Pick(hash)
			}
			b.Run(fmt.Sprintf("%s/%d", strategy, n), func(b *testing.B) {
				b.ReportAllocs()
				hash := uint64(0)
				for b.Loop() {
					hash++
					picker.Pick(hash)
				}
			})
			b.Run(fmt.Sprintf("%s/%d/parallel", strategy, n), func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism(4) // goroutines for each of 2 processors
				b.RunParallel(func(pb *testing.PB) {
					hash := uint64(0)
					for pb.Next() {
						hash++
						picker.Pick(hash)
					}
				})
			})
		}
	}
}

func BenchmarkHashKey(b *testing.B) {
	for _, length := range []int{8, 32, 128} {
		key := make([]byte, length)
		b.Run(fmt.Sprint(length), func(b *testing.B) {
			for b.Loop() {
				HashKey(key)
			}
		})
	}
}
