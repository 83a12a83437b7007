package balance

import "slices"

// first prefers the members in the order given: a later one serves only requests that the earlier ones could not, or
// snapshots without them. It needs no state.
type first struct{}

func newFirst([]Member) (Picker, error) {
	return first{}, nil
}

func (first) Pick(uint64) int {
	return 0
}

func (first) Next(_ uint64, tried []bool) int {
	return slices.Index(tried, false)
}
