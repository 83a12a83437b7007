// Package balance chooses one member of a pool for a request. It is pure logic: no network, no clock, no goroutine.
//
// # Build and pick
//
//	members change ── New(strategy, members) ── Picker ── Pick(hash) ── index
//	(health, weights,     slow, checks, may       │
//	 slow start)          compute tables          └─ Next(hash, tried) ── another index, or -1
//
// A picker belongs to one immutable snapshot of members and yields nothing but an index into it. It knows neither
// health nor breakers: the caller builds a snapshot of the members that are usable now and replaces the picker when
// that set, a weight or the place in a slow start changes. [Tier] and [Ramp] help to build it: the first says who is
// usable (the backups only without a primary), the second what a member that has just come back weighs.
//
// # Strategies
//
//	round_robin      in turn; weights are ignored
//	random           any, evenly; weights are ignored
//	weighted         in turn by weight, without bursts
//	least_request    the less loaded of two that are drawn by weight; reads Active
//	consistent_hash  equal hashes go to the same member while it has room; by weight; reads Active
//	first            the first member; the others are its replacements in order
//	single           the same, under the name that a pool of one has
//
// A slow start shows only where weights count: a pool that takes turns uses weighted while one of its members ramps up.
//
// Pick spreads the requests; Next finds a replacement for one request. They are kept apart: Next takes no turn from
// the strategies that promise exact shares, and draws at random there, because going on to the neighbour would give
// the whole load of a dead member to one other.
//
// # Concurrency and memory
//
// Pick and Next may be called from any number of goroutines, and neither blocks nor allocates: what changes in a picker
// is atomic, the turn of round_robin and weighted and the winners that consistent_hash remembers. New keeps no reference to
// the slice of members, only to the counters in it.
//
// # Sources
//
// The shape, build apart from pick and pick apart from health, is that of grpc-go's balancers and of
// pingora-load-balancing. Each strategy's file names the source of its algorithm.
package balance
