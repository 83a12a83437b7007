// Command upstream is the server that every benchmark talks to: fast enough to stay out of the way, and the same for
// all clients.
//
//	GET  /small    100 bytes
//	GET  /10k      10 KiB
//	GET  /1m       1 MiB
//	GET  /stream   as many bytes as the parameter bytes says, as a stream
//	     /echo     the request's body, or as many bytes of its X-Id over and over as the parameter bytes says; with its X-Id
//	POST /sink     reads the whole body, answers with its length in decimal
//	GET  /counters JSON: connections accepted and requests answered so far
//
// It binds free ports of 127.0.0.1 for plain HTTP, for HTTPS and for raw.go, prints them on one line and serves until its
// standard input is closed, so that it cannot outlive the program that started it. An argument is the path of a unix socket
// on which it serves plain HTTP as well.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/valyala/fasthttp"
)

// maxRequestBody bounds what /sink accepts, in bytes; the largest benchmark sends 1 GB.
const maxRequestBody = 4 << 30

// payload is one fixed answer. The header lines are those of a plain JSON service behind a cache.
type payload struct {
	body []byte
	etag string
}

type server struct {
	payloads    map[string]payload
	connections atomic.Int64
	requests    atomic.Int64
	copyBuffers sync.Pool
}

func newServer() *server {
	sizes := map[string]int{"/small": 100, "/10k": 10 << 10, "/1m": 1 << 20}
	s := &server{payloads: make(map[string]payload, len(sizes))}
	for path, size := range sizes {
		s.payloads[path] = payload{
			body: bytes.Repeat([]byte("x"), size),
			etag: fmt.Sprintf(`"%x"`, size),
		}
	}
	s.copyBuffers.New = func() any {
		buffer := make([]byte, 256<<10)
		return &buffer
	}
	return s
}

func (s *server) serve(ctx *fasthttp.RequestCtx) {
	s.requests.Add(1)
	path := string(ctx.Path())
	if p, known := s.payloads[path]; known {
		ctx.Response.Header.Set("Content-Type", "application/octet-stream")
		ctx.Response.Header.Set("Cache-Control", "no-store")
		ctx.Response.Header.Set("Etag", p.etag)
		ctx.Response.SetBodyRaw(p.body)
		return
	}
	switch path {
	case "/stream":
		size := ctx.QueryArgs().GetUintOrZero("bytes")
		ctx.Response.Header.Set("Content-Type", "application/octet-stream")
		ctx.Response.SetBodyStream(io.LimitReader(endless{}, int64(size)), size)
	case "/echo":
		echo(ctx)
	case "/sink":
		s.sink(ctx)
	case "/counters":
		ctx.Response.Header.Set("Content-Type", "application/json")
		fmt.Fprintf(ctx, `{"connections":%d,"requests":%d}`, s.connections.Load(), s.requests.Load())
	default:
		ctx.Error("no such path", fasthttp.StatusNotFound)
	}
}

// echo answers so that a client can tell its own answer from any other.
func echo(ctx *fasthttp.RequestCtx) {
	var id []byte // in whatever case: names are not normalized here
	for name, value := range ctx.Request.Header.All() {
		if bytes.EqualFold(name, []byte("x-id")) {
			id = value
		}
	}
	var body []byte
	if stream := ctx.RequestBodyStream(); stream != nil {
		var err error
		if body, err = io.ReadAll(stream); err != nil {
			ctx.Error("body cut short", fasthttp.StatusBadRequest)
			return
		}
	}
	if size := ctx.QueryArgs().GetUintOrZero("bytes"); size > 0 && len(id) > 0 {
		body = bytes.Repeat(id, size/len(id)+1)[:size]
	}
	ctx.Response.Header.SetBytesV("X-Id", id)
	ctx.Response.SetBody(body)
}

// sink reads the body as it arrives: collecting it first would cost the shared machine a second megabyte per request.
func (s *server) sink(ctx *fasthttp.RequestCtx) {
	var length int64
	if stream := ctx.RequestBodyStream(); stream != nil {
		buffer := s.copyBuffers.Get().(*[]byte)
		defer s.copyBuffers.Put(buffer)
		// onlyWriter hides io.Discard's ReadFrom, which would bring its own 8 KiB buffer.
		n, err := io.CopyBuffer(onlyWriter{io.Discard}, stream, *buffer)
		if err != nil {
			ctx.Error("body cut short", fasthttp.StatusBadRequest)
			return
		}
		length = n
	} else {
		length = int64(len(ctx.Request.Body()))
	}
	ctx.Response.Header.Set("Content-Type", "text/plain")
	ctx.Response.SetBody(strconv.AppendInt(nil, length, 10))
}

// endless is a source of bytes that costs nothing.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func port(listener net.Listener) int { return listener.Addr().(*net.TCPAddr).Port }

type onlyWriter struct{ io.Writer }

func (s *server) countConnections(_ net.Conn, state fasthttp.ConnState) {
	if state == fasthttp.StateNew {
		s.connections.Add(1)
	}
}

func main() {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		log.Fatalf("upstream: %v", err)
	}
	s := newServer()
	httpServer := &fasthttp.Server{
		Handler:                       s.serve,
		Name:                          "upstream",
		ConnState:                     s.countConnections,
		StreamRequestBody:             true,
		MaxRequestBodySize:            maxRequestBody,
		DisableHeaderNamesNormalizing: true,
		Concurrency:                   64 << 10,
		ReadBufferSize:                16 << 10,
		WriteBufferSize:               16 << 10,
		CloseOnShutdown:               true,
	}
	secure, err := listenTLS()
	if err != nil {
		log.Fatalf("upstream: %v", err)
	}
	raw, err := listenRaw()
	if err != nil {
		log.Fatalf("upstream: %v", err)
	}
	serving := make(chan error, 4)
	if len(os.Args) > 1 {
		local, err := net.Listen("unix", os.Args[1])
		if err != nil {
			log.Fatalf("upstream: %v", err)
		}
		go func() { serving <- httpServer.Serve(local) }()
	}
	fmt.Println(port(listener), port(secure), port(raw))
	go func() { serving <- httpServer.Serve(listener) }()
	go func() { serving <- httpServer.Serve(secure) }()
	go func() { serving <- serveRaw(raw) }()
	parentGone := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(parentGone)
	}()
	select {
	case err := <-serving:
		log.Fatalf("upstream: %v", err)
	case <-parentGone:
	}
	if err := httpServer.Shutdown(); err != nil && !errors.Is(err, net.ErrClosed) {
		log.Fatalf("upstream: %v", err)
	}
}
