// Package retry decides whether another attempt may be made after one that has failed, and when.
//
// The rules are an ordered list (rules.go), each a small function that may say no, and why; the first no ends the matter.
// They ask facts, never texts: whether a byte of the request was written, whether a byte of the response came, whether
// the method has the same effect twice. A request that may have reached an upstream is sent again only if its method
// allows that (RFC 9110 section 9.2.2).
//
// A Budget bounds how many retries are under way at a time, in proportion to the requests that are: an upstream that fails
// for everybody is not buried under the retries of all.
//
// # Concurrency
//
// A Policy is read only. A Budget may be used from any goroutine and takes no lock. Nothing here reads a clock or starts
// a timer.
//
// # Sources
//
// The rules are those of net/http (which methods), Envoy (budget of 20 %, at least 3; full jitter of 25 to 250 ms) and
// nginx (nothing after the first byte of a response).
package retry
