package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// The server of the suite `load`: it holds connections itself, because it is to treat them badly and to see how they end.
//
//	/hold?id=N             no answer
//	/drip?id=N             a head, then a byte of the body each millisecond
//	/large?id=N            a body of 8 MB, as fast as it is taken
//	/events?id=N           an event each 100 ms, with the Unix time in nanoseconds
//	/late?id=N&ms=MS       an answer after so many milliseconds
//	/short?id=N            a body of 100 bytes that ends after ten
//	/brief?id=N&keep=US    an answer; the connection closes once it has been idle for so many microseconds
//	/closed                JSON: id to the Unix time in nanoseconds at which the server saw its connection end
//	/seen                  JSON: id to how often a request with it has arrived, for /brief and /late
type rawServer struct {
	mu     sync.Mutex
	closed map[string]int64
	seen   map[string]int
}

func listenRaw() (net.Listener, error) { return net.Listen("tcp4", "127.0.0.1:0") }

func serveRaw(listener net.Listener) error {
	s := &rawServer{closed: map[string]int64{}, seen: map[string]int{}}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go s.serve(conn)
	}
}

func (s *rawServer) serve(conn net.Conn) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for {
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, request.Body); err != nil {
			return
		}
		id := request.URL.Query().Get("id")
		switch request.URL.Path {
		case "/closed":
			s.report(conn, s.closed)
		case "/seen":
			s.report(conn, s.seen)
		case "/brief":
			s.count(id)
			text := "HTTP/1.1 200 OK\r\n" + hint(request) + "Content-Length: " + strconv.Itoa(len(id)) + "\r\n\r\n" + id
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
			keep, _ := strconv.Atoi(request.URL.Query().Get("keep"))
			_ = conn.SetReadDeadline(time.Now().Add(time.Duration(keep) * time.Microsecond))
			if _, err := reader.Peek(1); err != nil {
				return
			}
			_ = conn.SetReadDeadline(time.Time{})
		case "/late":
			s.count(id)
			pause, _ := strconv.Atoi(request.URL.Query().Get("ms"))
			time.Sleep(time.Duration(pause) * time.Millisecond)
			if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate"); err != nil {
				return
			}
		default:
			s.hold(conn, reader, request.URL.Path, id)
			return
		}
	}
}

const size = 8 << 20 // bytes of a body that nobody waits for

var large = bytes.Repeat([]byte("x"), 64<<10)

// hint is a Keep-Alive line if the request wants one.
func hint(request *http.Request) string {
	if seconds := request.URL.Query().Get("hint"); seconds != "" {
		return "Keep-Alive: timeout=" + seconds + "\r\n"
	}
	return ""
}

// hold treats a request badly until its connection ends, and notes when that was.
func (s *rawServer) hold(conn net.Conn, reader *bufio.Reader, path, id string) {
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, reader)
		s.mu.Lock()
		s.closed[id] = time.Now().UnixNano()
		s.mu.Unlock()
		close(ended)
	}()
	switch path {
	case "/drip":
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size+1) // it never ends
		for {
			select {
			case <-ended:
				return
			case <-time.After(time.Millisecond + time.Duration(rand.IntN(1000))*time.Microsecond):
				_, _ = conn.Write([]byte("x"))
			}
		}
	case "/events":
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
		for {
			select {
			case <-ended:
				return
			case <-time.After(100 * time.Millisecond):
				event := fmt.Sprintf("data: %d\n\n", time.Now().UnixNano())
				_, _ = fmt.Fprintf(conn, "%x\r\n%s\r\n", len(event), event)
			}
		}
	case "/short":
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly these")
		return
	case "/large":
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size+1) // it never ends
		for left := size; left > 0; left -= len(large) {
			if _, err := conn.Write(large); err != nil {
				break
			}
		}
	}
	<-ended
}

func (s *rawServer) count(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[id]++
}

func (s *rawServer) report(conn net.Conn, what any) {
	s.mu.Lock()
	text, _ := json.Marshal(what)
	s.mu.Unlock()
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
}
