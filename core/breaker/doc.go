// Package breaker is the circuit breaker of one upstream, and its passive ejection: one state machine, because two would
// fight each other.
//
//	         failures reach the limit                 OpenTime is over
//	closed ─────────────────────────────► open ─────────────────────────────► half-open
//	  ▲                                     ▲                                    │   │
//	  │                                     └──────── a probe fails ─────────────┘   │
//	  └───────────────────────────────────────────── a probe succeeds ───────────────┘
//
// # Life of a permit
//
// Whoever wants to send asks Admit, which fills the caller's Permit, and ends it with exactly one of Success, Failure
// and Ignore; later calls do nothing. A permit remembers the generation in which it was given, and every change of state
// begins another one: a result that comes late can neither trip a breaker that has recovered nor heal one that has not.
//
// While the breaker is half-open at most MaxProbes permits are out. A probe that does not report within Lease is taken for
// lost and its place is free again, so that nothing can wedge the breaker; that it reports after all has no effect.
//
// What is a failure is the caller's to say: it should report at the end of a response's body, not at its head.
//
// # Concurrency and time
//
// All methods may be called from any goroutine; none of them waits for anything but a short lock. Admit and Success of a
// closed breaker without failures take no lock. The clock is injected and only ever compared with itself.
//
// # Sources
//
// The generation is that of sony/gobreaker, the permits are those of linkerd's gate and failsafe-go. That an opening grows
// longer when it follows another one is Envoy's outlier detection.
package breaker
