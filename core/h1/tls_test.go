package h1

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// tlsUpstream runs a script over TLS; raw is the socket under it.
func tlsUpstream(t *testing.T, script func(v *visit, raw net.Conn)) *Transport {
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	upstream := newScriptedUpstream(t, func(v *visit) {
		raw := v.Conn
		v.Conn = tls.Server(raw, &tls.Config{Certificates: server.TLS.Certificates})
		v.reader.Reset(v.Conn)
		script(v, raw)
	})
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return newTransport(t, upstream.address(), func(o *Options) {
		o.TLS = &tls.Config{RootCAs: roots, ServerName: "example.com"}
	})
}

// RFC 9112 section 9.8: without close_notify, a body that ends with the connection is incomplete.
func TestBodyUntilCloseNeedsCloseNotify(t *testing.T) {
	for name, orderly := range map[string]bool{"close_notify": true, "cut off": false} {
		t.Run(name, func(t *testing.T) {
			transport := tlsUpstream(t, func(v *visit, raw net.Conn) {
				v.head()
				v.send("HTTP/1.1 200 OK\r\n\r\nhello")
				if orderly {
					require.NoError(t, v.Conn.(*tls.Conn).CloseWrite())
					v.untilClosed()
				}
				_ = raw.Close()
			})
			got := exchange(t, transport, get("/"))
			if orderly {
				require.Nil(t, got.err)
				require.Equal(t, "hello", got.body)
				return
			}
			require.NotNil(t, got.err)
			require.Equal(t, KindClosed, got.err.Kind)
			require.Equal(t, PhaseBody, got.err.Phase)
		})
	}
}

func TestConnectionsOverTLSAreReused(t *testing.T) {
	var count atomic.Int32
	transport := tlsUpstream(t, func(v *visit, _ net.Conn) {
		count.Add(1)
		for v.head() != "" {
			v.send(okResponse)
		}
	})
	for range 5 {
		got := exchange(t, transport, get("/"))
		require.Nil(t, got.err)
		require.Equal(t, "ok", got.body)
	}
	require.EqualValues(t, 1, count.Load())
}

// Row U33: what is not TLS in the middle of a body, or an orderly end there, is never a success.
func TestU33ABodyThatBreaksOffUnderTLS(t *testing.T) {
	for name, end := range map[string]func(v *visit, raw net.Conn){
		"garbage":      func(_ *visit, raw net.Conn) { _, _ = raw.Write([]byte("this is no record of TLS, whatever comes")) },
		"alert":        func(_ *visit, raw net.Conn) { _, _ = raw.Write([]byte{21, 3, 3, 0, 2, 2, 80}) },
		"close_notify": func(v *visit, _ net.Conn) { _ = v.Conn.(*tls.Conn).CloseWrite() },
		"reset":        func(_ *visit, raw net.Conn) { _ = raw.(*net.TCPConn).SetLinger(0); _ = raw.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			transport := tlsUpstream(t, func(v *visit, raw net.Conn) {
				if v.number > 1 {
					for v.head() != "" {
						v.send(okResponse)
					}
					return
				}
				v.head()
				v.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
				end(v, raw)
				v.untilClosed()
			})
			got := exchange(t, transport, get("/"))
			require.NotNil(t, got.err)
			require.Contains(t, []Kind{KindClosed, KindProtocol}, got.err.Kind)
			require.Equal(t, PhaseBody, got.err.Phase)
			for range 3 {
				require.Equal(t, "ok", exchange(t, transport, get("/")).body)
			}
		})
	}
}
