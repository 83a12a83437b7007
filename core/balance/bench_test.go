package balance

import (
	"fmt"
	"testing"
)

// BenchmarkPick measures one pick. The weights differ, so that no strategy is on its short way for equal ones, and all
// members are busy.
func BenchmarkPick(b *testing.B) {
	for _, strategy := range Names() {
		for _, n := range []int{3, 10, 100} {
			members := equalMembers(n)
			for i := range members {
				members[i].Weight = 1 + i%5
				members[i].Active.Store(int64(2 * members[i].Weight))
			}
			picker := build(b, strategy, members)
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
