package h1

import (
	"fmt"
)

// Phase is the part of an exchange that was under way.
type Phase uint8

// The phases in the order in which an exchange passes them.
const (
	PhaseRequest Phase = iota // checking the request
	PhaseQueue                // waiting for a connection
	PhaseDNS                  // resolving the upstream's name
	PhaseConnect              // connecting
	PhaseTLS                  // shaking hands
	PhaseWrite                // sending the request
	PhaseHead                 // waiting for and reading the response head
	PhaseBody                 // reading the response body
)

var phaseNames = [...]string{"request", "queue", "dns", "connect", "tls", "write", "head", "body"}

func (p Phase) String() string { return phaseNames[p] }

// Kind is the class of a failure.
type Kind uint8

// The kinds of failure.
const (
	KindInvalidRequest  Kind = iota + 1 // method or target that must not be sent
	KindInvalidHeader                   // header field that must not be sent
	KindConnect                         // refused, unreachable, name not found
	KindConnectTimeout                  // not connected, or no TLS, within the connect timeout
	KindTLS                             // handshake or certificate refused
	KindClosed                          // closed or reset by the upstream before the response was complete
	KindProtocol                        // the upstream's bytes are not acceptable HTTP
	KindTooLarge                        // a body exceeds its limit
	KindPoolTimeout                     // no connection became free within the pool timeout
	KindReadTimeout                     // the upstream did not go on within the first-byte or idle timeout
	KindExhausted                       // all connections busy and the queue full
	KindCancelled                       // Cancel was called; Err is its cause
	KindTransportClosed                 // the transport was closed
	KindInternal                        // a panic was recovered
)

// Error says what failed, where, and what the upstream may have seen. A retry asks these fields, never the text.
type Error struct {
	Kind      Kind
	Phase     Phase
	Sent      bool // some byte of the request was written to the socket
	Reused    bool // the connection had carried a request before
	Responded bool // some byte of the response was read
	Source    bool // the next piece of Request.Source was waited for: nobody knows how the upstream would have done
	Message   string
	Err       error // the cause, if there is one
}

func (e *Error) Error() string {
	switch {
	case e.Err == nil:
		return e.Message
	case e.Message == "":
		return e.Err.Error()
	}
	return e.Message + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

func protocolError(format string, args ...any) *Error {
	return &Error{Kind: KindProtocol, Message: fmt.Sprintf(format, args...)}
}
