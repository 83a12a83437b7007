// Package health finds out by active probes which targets of a pool can serve, and says so when that changes. It speaks
// no protocol: a probe is a function of the caller, and a target is a number.
//
// # Life cycle
//
//	NewProber ── Start ─┬─ every target at once ── each again in every Interval, spread ──┬─ Stop
//	                    │                                                                 │
//	                    └─ probe(ctx, target) ── Result ── Tracker ── changed(target, healthy)
//
// A target is healthy and unknown until it has been probed: a pool can serve before the first probe has an answer, and
// its breakers guard it meanwhile. Fall failures in a row make it unhealthy, Rise successes in a row healthy again.
// RunNow probes all targets beside that rhythm and applies each verdict at once. Add and Remove change the targets at
// any time. Nothing runs before Start except RunNow, and nothing is left when Stop returns.
//
// The first round is simultaneous, since a pool wants to know soon. After that every target has a moment of its own in
// the interval, and Jitter moves each probe around it; so neither one prober nor many of them hit a shared host with
// bursts of probes.
//
// # Concurrency
//
// All methods of a Prober may be called from any goroutine; a Tracker alone belongs to one. Each target has one
// goroutine and at most one probe of its own under way, plus one for each RunNow. The callback is told every change
// exactly once and in order for a target, and after RunNow has returned it has been told all changes of that round. It
// is called without a lock that Add, Remove and States need. It must not call RunNow, which may be waiting for it, nor
// Stop, which waits for it; and a lock that it takes must not be held around these two.
//
// A probe that was cut short by Remove, Stop or the end of RunNow's context says nothing about its target and is
// dropped.
//
// # Sources
//
// Thresholds, their defaults and the spreading are those of HAProxy (rise, fall, inter, spread-checks). Keeping health
// out of the selection is taken from pingora-load-balancing.
package health
