package main

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/velithon/velithon-proxy/core/h1"
)

// coreWorker sends one request after the other over the transport of the core, as the core itself uses it: the next
// exchange starts where the last one is done, and no goroutine waits for it.
type coreWorker struct {
	loop      *loop
	exchange  h1.Exchange
	started   time.Time
	status    int
	size      int
	latencies []time.Duration
	err       error
	done      sync.WaitGroup
}

func newTransport(opt options) *h1.Transport {
	return h1.NewTransport(h1.Options{
		Network: "tcp", Address: opt.address, Authority: opt.address,
		ConnectTimeout: 3 * time.Second, KeepAlive: 5 * time.Minute,
		MaxConnections: opt.concurrency + 8, MaxIdle: opt.concurrency + 8, MaxWaiting: 1,
		MaxHeadBytes: 64 << 10, MaxHeadFields: 500,
	})
}

// workOnCore is loop.work for the transport of the core.
func (l *loop) workOnCore() ([]time.Duration, error) {
	w := &coreWorker{loop: l}
	w.done.Add(1)
	w.start()
	w.done.Wait()
	return w.latencies, w.err
}

func (w *coreWorker) start() {
	w.started = time.Now()
	request := &w.exchange.Request
	request.Method, request.Target, request.Body = w.loop.opt.method, w.loop.opt.path, w.loop.body
	request.Fields = request.Fields[:0] // built anew, as for every call of a client
	for _, h := range w.loop.opt.headers {
		request.Fields = h1.AppendField(request.Fields, h.name, h.value)
	}
	w.exchange.Receiver = w
	w.exchange.ID++
	w.loop.transport.Start(&w.exchange)
}

// Respond implements h1.Receiver.
func (w *coreWorker) Respond(head *h1.Head, body *h1.Body) error {
	data, err := body.Whole()
	if err != nil {
		return err
	}
	w.status, w.size = head.Status, len(data)
	return nil
}

// Cancelled implements h1.Receiver.
func (w *coreWorker) Cancelled() {}

// Done implements h1.Receiver.
func (w *coreWorker) Done(err *h1.Error) {
	switch {
	case err != nil:
		w.err = err
	case w.status != http.StatusOK || w.size != w.loop.opt.wantSize:
		w.err = fmt.Errorf("status %d with %d bytes, want 200 with %s", w.status, w.size, strconv.Itoa(w.loop.opt.wantSize))
	}
	w.loop.all.Add(1)
	if w.loop.counting.Load() {
		w.latencies = append(w.latencies, time.Since(w.started))
	}
	if w.err != nil || w.loop.stop.Load() {
		w.done.Done()
		return
	}
	w.start()
}
