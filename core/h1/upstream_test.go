package h1

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// scriptedUpstream runs a script for each connection it accepts and notes what it was sent.
type scriptedUpstream struct {
	listener net.Listener
	accepted atomic.Int32
	group    sync.WaitGroup
}

// visit is one connection to a scripted upstream.
type visit struct {
	net.Conn
	t      *testing.T
	reader *bufio.Reader
	number int // 1 for the first connection
}

func newScriptedUpstream(t *testing.T, script func(v *visit)) *scriptedUpstream {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return newScriptedUpstreamOn(t, listener, script)
}

func newScriptedUpstreamOn(t *testing.T, listener net.Listener, script func(v *visit)) *scriptedUpstream {
	t.Helper()
	u := &scriptedUpstream{listener: listener}
	u.group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			number := int(u.accepted.Add(1))
			u.group.Go(func() {
				defer conn.Close()
				script(&visit{Conn: conn, t: t, reader: bufio.NewReader(conn), number: number})
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		u.group.Wait()
	})
	return u
}

func (u *scriptedUpstream) address() string { return u.listener.Addr().String() }

// head reads one request head, without its last empty line. Empty when the client has closed.
func (v *visit) head() string {
	var head strings.Builder
	for {
		line, err := v.reader.ReadString('\n')
		if err != nil || line == "\r\n" {
			return head.String()
		}
		head.WriteString(line)
	}
}

// body reads n bytes.
func (v *visit) body(n int) string {
	data := make([]byte, n)
	_, err := io.ReadFull(v.reader, data)
	require.NoError(v.t, err)
	return string(data)
}

func (v *visit) send(text string) {
	_, _ = io.WriteString(v, text)
}

// untilClosed reads until the client closes the connection.
func (v *visit) untilClosed() { _, _ = io.Copy(io.Discard, v.reader) }

// reset ends the connection with RST.
func (v *visit) reset() {
	_ = v.Conn.(*net.TCPConn).SetLinger(0)
	_ = v.Close()
}

// outcome is what a recorder saw of one exchange.
type outcome struct {
	status int
	fields []string
	body   string
	err    *Error
}

// recorder collects a response, reading its body through Read.
type recorder struct {
	outcome
	responded func() // called in Respond, after the head
	readBody  func(*Body) (string, error)
	done      chan struct{}
	times     atomic.Int32
}

func (r *recorder) Respond(head *Head, body *Body) error {
	r.status = head.Status
	for name, value := range head.Fields.All {
		r.fields = append(r.fields, string(name)+": "+string(value))
	}
	if r.responded != nil {
		r.responded()
	}
	var err error
	if r.readBody != nil {
		r.body, err = r.readBody(body)
		return err
	}
	data, err := io.ReadAll(body)
	r.body = string(data)
	return err
}

func (r *recorder) Cancelled() {}

func (r *recorder) Done(err *Error) {
	r.err = err
	r.times.Add(1)
	close(r.done)
}

func newTransport(t *testing.T, address string, change ...func(*Options)) *Transport {
	t.Helper()
	options := Options{
		Network: "tcp", Address: address, Authority: address,
		ConnectTimeout: 3 * time.Second, KeepAlive: time.Minute, MaxConnections: 64, MaxIdle: 50, MaxWaiting: 64,
		MaxHeadBytes: 64 << 10, MaxHeadFields: 500,
	}
	for _, c := range change {
		c(&options)
	}
	transport := NewTransport(options)
	t.Cleanup(transport.Close)
	return transport
}

// begin starts an exchange and returns it with its recorder.
func begin(transport *Transport, request Request) (*Exchange, *recorder) {
	r := &recorder{done: make(chan struct{})}
	ex := &Exchange{Request: request, Receiver: r, ID: 1}
	transport.Start(ex)
	return ex, r
}

// wait returns the outcome of an exchange that was begun.
func (r *recorder) wait(t *testing.T) outcome {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(10 * time.Second):
		require.FailNow(t, "the exchange did not end")
	}
	return r.outcome
}

func exchange(t *testing.T, transport *Transport, request Request) outcome {
	t.Helper()
	_, r := begin(transport, request)
	return r.wait(t)
}

func get(target string) Request { return Request{Method: "GET", Target: target} }

var errTest = errors.New("test")
