// Package h1 is the HTTP/1.1 transport of the gateway: one request over one connection to one upstream.
//
// It keeps fasthttp's connection pool (HostClient) and replaces everything above it. fasthttp's own exchange sends GET
// and PUT again by itself, reports a chunked body that was cut between chunks as complete, serves bytes that arrived on
// an idle connection to the next caller, loses an early final response and cannot be cancelled.
//
// # The life of an exchange
//
//	Start ── admission ── lease ──┬─ idle connection: the caller writes the request itself, without blocking
//	  │        (or queue)         └─ no idle one:     a goroutine dials, then writes
//	  │
//	  └─ returns at once. The goroutine of the connection, parked in a read, wakes up with the first response byte:
//	     head ── Receiver.Respond(head, body) ── verdict: back to the pool, or close ── Receiver.Done(err)
//
// Every connection has one goroutine for its whole life. While the connection is idle the goroutine waits in a read,
// so a FIN or an unsolicited byte on an idle connection is seen when it arrives and ends the connection (RFC 9112
// section 9.2). The goroutine arms the poller before it gives the connection back, which saves the read that would
// find nothing: a small exchange costs one write, one read and no goroutine start.
//
// # Ownership
//
// The request's memory belongs to the caller and is not read any more once Done has been called. Head and the bytes
// that Body.Whole returns live in the buffers of the connection: they are valid until Done returns.
//
// # Concurrency
//
// Start and Cancel may be called from any goroutine, and Start never waits for the network or a scheduler. Respond runs
// on the goroutine of the connection, and so does Done as a rule. Of an exchange that ends without a connection Done runs on
// the goroutine that ends it: that of Start, Cancel or Close, or of the connection whose place it was to get. Done is
// called exactly once for each Start.
package h1
