// Package core forwards HTTP requests to upstreams. It is a Go library by itself: it knows neither C nor Python, reads
// no environment and prints nothing. A pool starts nothing until it is used, but for probes, which begin when it is opened.
//
// # The life of one call
//
//	Pool.Start(call)
//	   │  deadline noted; one timer serves all calls of the pool
//	   ▼
//	attempt ── h1.Transport.Start ── h1.Exchange ──► upstream
//	   ▲                                   │
//	   │   Sink.Respond(head, body)  ◄─────┤  on the goroutine of the connection
//	   └── Sink.Done(err)            ◄─────┘  exactly once, last
//
// Start never waits, neither for the network nor for another goroutine, so it can be called from an event loop's thread.
// Pool.Do is the same for a Go program that would rather wait.
//
// # Who owns which bytes
//
// The memory of a Request belongs to the caller, is only read, and is not used any more once Sink.Done is called. Head and
// Body belong to the connection and are valid until Sink.Done returns; a sink that wants to keep bytes copies them, or
// gives Body.Read the memory to put them in.
package core
