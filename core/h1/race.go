package h1

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// headStart is how long an attempt to connect has the field to itself (RFC 8305 section 5).
const headStart = 250 * time.Millisecond

// race connects to the first of several addresses that answers (RFC 8305): IPv6 and IPv4 by turns in the order of the
// resolver, each a moment after the one before, or at once when that one has failed. The losers are given up.
func race(ctx context.Context, dialer *net.Dialer, list []netip.Addr, port string) (net.Conn, error) {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	list = byTurns(list)
	if len(list) == 1 {
		return dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(list[0], uint16(number)).String())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		conn net.Conn
		err  error
	}
	outcomes := make(chan outcome)
	left := make(chan struct{})
	defer close(left)
	start := func(address netip.Addr) {
		conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(address, uint16(number)).String())
		select {
		case outcomes <- outcome{conn, err}:
		case <-left:
			if conn != nil {
				_ = conn.Close()
			}
		}
	}
	next := time.NewTimer(0)
	defer next.Stop()
	var first error
	for started, failed := 0, 0; ; {
		select {
		case <-next.C:
			if started < len(list) {
				go start(list[started])
				started++
				next.Reset(headStart)
			}
		case o := <-outcomes:
			if o.err == nil {
				return o.conn, nil
			}
			if first == nil {
				first = o.err
			}
			if failed++; failed == len(list) {
				return nil, first
			}
			next.Reset(0)
		}
	}
}

// byTurns orders addresses so that the families alternate, beginning with the family of the first.
func byTurns(list []netip.Addr) []netip.Addr {
	var families [2][]netip.Addr
	for _, address := range list {
		family := 0
		if address.Is4() != list[0].Is4() {
			family = 1
		}
		families[family] = append(families[family], address)
	}
	ordered := make([]netip.Addr, 0, len(list))
	for i := range len(list) {
		for _, family := range families {
			if i < len(family) {
				ordered = append(ordered, family[i])
			}
		}
	}
	return ordered
}
