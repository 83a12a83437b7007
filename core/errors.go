package core

import (
	"crypto/tls"
	"errors"
	"time"

	"github.com/velithon/velithon-proxy/core/h1"
)

// Code is the class of an error. capi/abi.h and the Python package hold the same list; a contract test compares them.
type Code uint32

// The codes. They cross the border: never renumber one.
const (
	CodeOK Code = iota
	CodeInvalidRequest
	CodeInvalidHeader
	CodeConnect
	CodeTLS
	CodeConnectTimeout
	CodePoolTimeout
	CodeReadTimeout
	CodeTotalTimeout
	CodeUpstreamClosed
	CodeUpstreamProtocol
	CodeCircuitOpen
	CodeNoHealthyTarget
	CodeBodyTooLarge
	CodeClientClosed
	CodeCancelled
	CodeInternal
	CodePoolExhausted
	CodeConfiguration
)

// Phase is the part of a call that was under way when it failed.
type Phase = h1.Phase

// Error is the one error type of calls. What a caller or a retry wants to know are fields; the text is for people.
type Error struct {
	Code      Code
	Phase     Phase
	Sent      bool // some byte of the request was written: the upstream may have acted on it
	Reused    bool // the connection had carried a request before
	Responded bool // some byte of the response was read
	Source    bool // the caller's next piece of the request's body was waited for
	// RetryAfter is when it may be worth trying again, for calls that were refused; zero: unknown.
	RetryAfter time.Duration
	Message    string
	Err        error // the cause, if there is one
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.Err }

// blames reports whether an attempt failed for a reason of the upstream's, which its breaker counts.
func (e *Error) blames() bool {
	switch e.Code {
	case CodeConnect, CodeTLS, CodeConnectTimeout, CodeUpstreamClosed, CodeUpstreamProtocol:
		return true
	case CodeReadTimeout, CodeTotalTimeout: // while it was the upstream that was waited for
		return e.Phase >= h1.PhaseDNS && !e.Source
	}
	return false
}

// final says why no other attempt is worth a thought: nobody waits for it, or it would end in the same way. Empty: it may be.
func (e *Error) final() string {
	switch e.Code {
	case CodeCancelled:
		return "the caller left"
	case CodeTotalTimeout:
		return "the deadline passed"
	case CodeClientClosed:
		return "the client was closed"
	case CodeBodyTooLarge:
		return "a body is larger than its limit"
	case CodeInvalidRequest, CodeInvalidHeader, CodeConfiguration:
		return "the request was refused before an upstream was asked"
	case CodeInternal:
		return "something failed on this side"
	}
	if e.certificate() {
		return "the certificate was refused"
	}
	return ""
}

// certificate reports whether a certificate was refused: the upstream's here, or ours there, which in TLS 1.3 is known only
// after the handshake.
func (e *Error) certificate() bool {
	var refused *tls.CertificateVerificationError
	return e.Code == CodeTLS && (e.Phase > h1.PhaseTLS || errors.As(e.Err, &refused))
}

// closedError is what a closed pool answers.
func closedError() *Error { return &Error{Code: CodeClientClosed, Message: "the client is closed"} }

// errTryTimeout ends an attempt that has not brought a response in time.
var errTryTimeout = &h1.Error{Kind: h1.KindReadTimeout, Message: "the attempt took too long"}

// The causes with which a call is cancelled.
var (
	errDeadline   = errors.New("the deadline passed")
	errPoolClosed = errors.New("the client was closed")
	// ErrCallerLeft is the cause of a call whose caller does not want its outcome any more; a Sink may also return it
	// from Respond.
	ErrCallerLeft = errors.New("the caller left")
	// ErrTooLarge is what a Sink returns from Respond when it cannot take a body of that size.
	ErrTooLarge = errors.New("the response body is too large to be held in memory")
)

var codes = [...]Code{
	h1.KindInvalidRequest:  CodeInvalidRequest,
	h1.KindInvalidHeader:   CodeInvalidHeader,
	h1.KindConnect:         CodeConnect,
	h1.KindConnectTimeout:  CodeConnectTimeout,
	h1.KindTLS:             CodeTLS,
	h1.KindClosed:          CodeUpstreamClosed,
	h1.KindProtocol:        CodeUpstreamProtocol,
	h1.KindTooLarge:        CodeBodyTooLarge,
	h1.KindPoolTimeout:     CodePoolTimeout,
	h1.KindReadTimeout:     CodeReadTimeout,
	h1.KindExhausted:       CodePoolExhausted,
	h1.KindCancelled:       CodeCancelled,
	h1.KindTransportClosed: CodeClientClosed,
	h1.KindInternal:        CodeInternal,
}

// callError translates the error of an exchange into the error of its call.
func callError(err *h1.Error) *Error {
	if err == nil {
		return nil
	}
	e := &Error{
		Code: codes[err.Kind], Phase: err.Phase,
		Sent: err.Sent, Reused: err.Reused, Responded: err.Responded, Source: err.Source,
		Message: err.Error(), Err: err,
	}
	if err.Kind == h1.KindCancelled {
		switch {
		case errors.Is(err, errDeadline):
			e.Code, e.Message = CodeTotalTimeout, "the deadline passed"
			if e.Source {
				e.Message += " before the next piece of the request's body came"
			}
		case errors.Is(err, errPoolClosed):
			e.Code, e.Message = CodeClientClosed, "the client was closed"
		}
	}
	if errors.Is(err, ErrCallerLeft) {
		e.Code = CodeCancelled
	}
	if errors.Is(err, ErrTooLarge) {
		e.Code, e.Message = CodeBodyTooLarge, ErrTooLarge.Error()
	}
	return e
}
