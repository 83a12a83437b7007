package h1

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// names is a resolver whose answers a test sets.
type names struct {
	mu    sync.Mutex
	list  []netip.Addr
	err   error
	asked int
	hold  chan struct{} // a question waits for it to be closed
}

func (n *names) set(err error, list ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list, n.err = nil, err
	for _, address := range list {
		n.list = append(n.list, netip.MustParseAddr(address))
	}
}

func (n *names) lookup(ctx context.Context, _ string) ([]netip.Addr, error) {
	n.mu.Lock()
	n.asked++
	hold := n.hold
	n.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.list, n.err
}

func (n *names) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

func listOf(found *addresses) []string {
	var list []string
	for _, address := range found.list {
		list = append(list, address.String())
	}
	return list
}

// Rows F13: answers are refreshed every 30 s beside the traffic, and kept when the resolver fails.
func TestAnswersOfTheResolver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &names{}
		r := newResolver("name", n.lookup)
		defer r.end()
		resolve := func() []string {
			found, err := r.resolve(t.Context())
			require.NoError(t, err)
			synctest.Wait()
			return listOf(found)
		}
		n.set(errors.New("SERVFAIL"))
		_, err := r.resolve(t.Context())
		require.EqualError(t, err, "SERVFAIL", "F13: nothing to fall back to")

		n.set(nil, "192.0.2.1", "::ffff:192.0.2.2")
		require.Equal(t, []string{"192.0.2.1", "192.0.2.2"}, resolve())
		time.Sleep(29 * time.Second)
		require.Equal(t, []string{"192.0.2.1", "192.0.2.2"}, resolve())
		require.Equal(t, 2, n.count(), "F13: a fresh answer is not asked for")

		n.set(nil, "192.0.2.3")
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"192.0.2.1", "192.0.2.2"}, resolve(), "F13: the answer serves while it is refreshed")
		require.Equal(t, []string{"192.0.2.3"}, resolve(), "F13: the new address after 30 s")

		n.set(errors.New("SERVFAIL"))
		time.Sleep(time.Hour)
		require.Equal(t, []string{"192.0.2.3"}, resolve(), "F13: a stale answer when the resolver fails")

		n.set(nil, "192.0.2.4")
		require.Equal(t, []string{"192.0.2.4"}, resolve(), "F13: an old answer waits for a better one")

		n.hold = make(chan struct{})
		time.Sleep(time.Hour)
		before := time.Now()
		require.Equal(t, []string{"192.0.2.4"}, resolve(), "F13: but not for long")
		require.Equal(t, staleAfter, time.Since(before))
		close(n.hold)
	})
}

func TestConnectionsShareOneQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &names{hold: make(chan struct{})}
		n.set(nil, "192.0.2.1")
		r := newResolver("name", n.lookup)
		defer r.end()
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				found, err := r.resolve(t.Context())
				require.NoError(t, err)
				require.Equal(t, []string{"192.0.2.1"}, listOf(found))
			})
		}
		synctest.Wait()
		close(n.hold)
		group.Wait()
		require.Equal(t, 1, n.count())
	})
}

func TestNamesThatCannotBeResolved(t *testing.T) {
	n := &names{}
	for name, row := range map[string]struct {
		err  error
		kind Kind
	}{
		"F13 NXDOMAIN":     {&net.DNSError{Err: "no such host", Name: "name", IsNotFound: true}, KindConnect},
		"F13 SERVFAIL":     {&net.DNSError{Err: "server misbehaving", Name: "name"}, KindConnect},
		"F13 no addresses": {nil, KindConnect},
		"F13 timeout":      {&net.DNSError{Err: "i/o timeout", Name: "name", IsTimeout: true}, KindConnectTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			n.set(row.err)
			got := exchange(t, newTransport(t, "name:1", func(o *Options) { o.Resolve = n.lookup }), get("/"))
			require.NotNil(t, got.err)
			require.Equal(t, row.kind, got.err.Kind)
			require.Equal(t, PhaseDNS, got.err.Phase)
			require.False(t, got.err.Sent)
		})
	}
}

func TestAResolverThatPanicsIsOneThatFails(t *testing.T) {
	before := Panics.Load()
	r := newResolver("name", func(context.Context, string) ([]netip.Addr, error) { panic("a bug") })
	for range 2 {
		f := r.ask()
		<-f.done
		require.ErrorContains(t, f.err, "panicked")
	}
	require.Equal(t, before+2, Panics.Load())
}

func TestASlowResolverIsBoundByTheConnectTimeout(t *testing.T) {
	n := &names{hold: make(chan struct{})}
	transport := newTransport(t, "name:1", func(o *Options) {
		o.Resolve, o.ConnectTimeout = n.lookup, 50*time.Millisecond
	})
	got := exchange(t, transport, get("/"))
	require.NotNil(t, got.err)
	require.Equal(t, KindConnectTimeout, got.err.Kind)
	require.Equal(t, PhaseDNS, got.err.Phase)
}

// An address that refuses moves on to the next at once; the families take turns.
func TestTheNextAddressIsTried(t *testing.T) {
	upstream := newScriptedUpstream(t, func(v *visit) {
		for v.head() != "" {
			v.send(okResponse)
		}
	})
	_, port, err := net.SplitHostPort(upstream.address())
	require.NoError(t, err)
	n := &names{}
	n.set(nil, "127.0.0.3", "127.0.0.2", "127.0.0.1") // the upstream listens on the last one only
	transport := newTransport(t, net.JoinHostPort("name", port), func(o *Options) { o.Resolve = n.lookup })
	start := time.Now()
	got := exchange(t, transport, get("/"))
	require.Nil(t, got.err)
	require.Equal(t, "ok", got.body)
	require.Less(t, time.Since(start), headStart, "a refused address is not waited for")

	n.set(nil, "127.0.0.3", "127.0.0.2")
	refused := newTransport(t, net.JoinHostPort("name", port), func(o *Options) { o.Resolve = n.lookup })
	got = exchange(t, refused, get("/"))
	require.Equal(t, KindConnect, got.err.Kind)
	require.ErrorContains(t, got.err, "refused")
}

func TestFamiliesTakeTurns(t *testing.T) {
	var list []netip.Addr
	for _, address := range []string{"2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1", "192.0.2.2"} {
		list = append(list, netip.MustParseAddr(address))
	}
	require.Equal(t,
		[]string{"2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3"},
		listOf(&addresses{byTurns(list)}))
}

// Row F13: a name that has moved is followed, and the connections to its old address end.
func TestConnectionsToAnAddressThatIsGoneEnd(t *testing.T) {
	answers := func(text string) func(*visit) {
		return func(v *visit) {
			for v.head() != "" {
				v.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + text)
			}
		}
	}
	first := newScriptedUpstream(t, answers("A"))
	_, port, err := net.SplitHostPort(first.address())
	require.NoError(t, err)
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.2", port))
	if err != nil {
		t.Skip("the system has one loopback address only: ", err)
	}
	newScriptedUpstreamOn(t, listener, answers("B"))
	n := &names{}
	n.set(nil, "127.0.0.1")
	transport := newTransport(t, net.JoinHostPort("name", port), func(o *Options) { o.Resolve = n.lookup })
	require.Equal(t, "A", exchange(t, transport, get("/")).body)
	require.Equal(t, "A", exchange(t, transport, get("/")).body)

	n.set(nil, "127.0.0.2")
	<-transport.resolver.ask().done // 30 s later
	require.Equal(t, "B", exchange(t, transport, get("/")).body)
	all, _ := transport.Connections()
	require.Equal(t, 1, all, "the connection to the old address has ended")
	require.EqualValues(t, 1, first.accepted.Load())
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.sock")
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	seen := make(chan string, 3)
	upstream := newScriptedUpstreamOn(t, listener, func(v *visit) {
		for {
			head := v.head()
			if head == "" {
				return
			}
			seen <- head
			v.send(okResponse)
		}
	})
	transport := newTransport(t, path, func(o *Options) { o.Network, o.Authority = "unix", "localhost" })
	for range 3 {
		got := exchange(t, transport, get("/x"))
		require.Nil(t, got.err)
		require.Equal(t, "ok", got.body)
	}
	require.Equal(t, "GET /x HTTP/1.1\r\nHost: localhost\r\n", <-seen)
	require.EqualValues(t, 1, upstream.accepted.Load())

	missing := newTransport(t, path+"x", func(o *Options) { o.Network, o.Authority = "unix", "localhost" })
	got := exchange(t, missing, get("/"))
	require.Equal(t, KindConnect, got.err.Kind)
	require.ErrorContains(t, got.err, "no such file")
}
