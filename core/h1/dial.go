package h1

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"syscall"
)

// dial connects to the upstream for an exchange, whose Cancel ends it.
func (t *Transport) dial(ctx context.Context, ex *Exchange, c *conn, cancel context.CancelFunc) (transport, raw net.Conn, failure *Error) {
	ex.mu.Lock()
	cancelled := ex.cause != nil
	ex.cancelDial = cancel
	ex.mu.Unlock()
	defer func() {
		if cause := recover(); cause != nil {
			failure = panicError(cause)
		}
		ex.mu.Lock()
		ex.cancelDial = nil
		cancelled := ex.cause != nil
		ex.mu.Unlock()
		if cancelled && failure != nil {
			failure = ex.cancelled(failure.Phase)
		}
	}()
	if cancelled {
		return nil, nil, ex.cancelled(PhaseConnect)
	}
	raw, failure = t.reach(ctx, c)
	if failure != nil {
		return nil, nil, failure
	}
	if t.options.TLS == nil {
		return raw, raw, nil
	}
	noting, err := newEndNoting(raw)
	if err != nil {
		_ = raw.Close()
		return nil, nil, &Error{Kind: KindConnect, Phase: PhaseConnect, Message: "the socket cannot be used", Err: err}
	}
	secure := tls.Client(noting, t.options.TLS)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		if isTimeout(err) {
			return nil, nil, &Error{Kind: KindConnectTimeout, Phase: PhaseTLS, Message: "the TLS handshake took too long"}
		}
		return nil, nil, &Error{Kind: KindTLS, Phase: PhaseTLS, Message: "the TLS handshake failed", Err: err}
	}
	return secure, raw, nil
}

// reach connects to the upstream's address, or to one of the addresses that its name has.
func (t *Transport) reach(ctx context.Context, c *conn) (net.Conn, *Error) {
	if t.resolver == nil {
		raw, err := t.dialer.DialContext(ctx, t.options.Network, t.options.Address)
		if err != nil {
			return nil, dialError(err)
		}
		return raw, nil
	}
	found, err := t.resolver.resolve(ctx)
	if err != nil {
		if isTimeout(err) {
			return nil, &Error{Kind: KindConnectTimeout, Phase: PhaseDNS, Message: "resolving the name took too long"}
		}
		return nil, dialError(err)
	}
	c.resolved = found
	_, port, _ := net.SplitHostPort(t.options.Address)
	raw, err := race(ctx, &t.dialer, found.list, port)
	if err != nil {
		return nil, dialError(err)
	}
	return raw, nil
}

// dialError sorts what net.Dialer reports.
func dialError(err error) *Error {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return &Error{Kind: KindExhausted, Phase: PhaseConnect, Message: "no file descriptor is left for a connection", Err: err}
	case errors.As(err, &dns) && dns.IsTimeout:
		return &Error{Kind: KindConnectTimeout, Phase: PhaseDNS, Message: "resolving the name took too long"}
	case errors.As(err, &dns):
		return &Error{Kind: KindConnect, Phase: PhaseDNS, Message: "the name cannot be resolved", Err: errors.New(dns.Err)}
	case isTimeout(err):
		return &Error{Kind: KindConnectTimeout, Phase: PhaseConnect, Message: "connecting took too long"}
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		err = op.Err
	}
	return &Error{Kind: KindConnect, Phase: PhaseConnect, Message: "the upstream cannot be reached", Err: err}
}
