package main

/*
#include "queue.h"
*/
import "C"

import (
	"io"

	"github.com/velithon/velithon-proxy/core"
)

// A node that the core has pushed before its request was over is parked: it is the bridge's until it comes back with
// memory for (more of) the body, or without. The goroutine of the connection waits for that meanwhile, and so do the
// socket and the upstream: a reader that does not ask stops the sender.

// park pushes the node in the middle of its request and waits for memory. nil: there is none, or the request was
// cancelled.
func (t *task) park(stage C.uint32_t) []byte {
	t.mu.Lock()
	t.parked = true
	t.node.stage = stage
	push(t.node.reply_to, t.node)
	t.mu.Unlock()
	select {
	case memory := <-t.memory:
		return memory
	case <-t.cancelled:
		return nil
	}
}

// unpark takes a parked node back.
func (t *task) unpark(node *C.vp_node) {
	t.mu.Lock()
	t.parked = false
	over := t.over
	t.over = false
	if !over {
		t.memory <- directBuffer(node)
	}
	t.mu.Unlock()
	if over { // the request ended while the node was away
		t.answer()
	}
}

// Cancelled implements core.Sink.
func (t *task) Cancelled() {
	select {
	case t.cancelled <- struct{}{}:
	default:
	}
}

// stream hands the response on as it comes: the head by itself, then whatever has arrived each time the bridge gives
// memory for it.
func (t *task) stream(body *core.Body) error {
	if body.Arrived() {
		data, err := body.Whole()
		if err != nil {
			return err
		}
		t.body = data
		return nil
	}
	t.node.status, t.node.elapsed_ns = C.uint32_t(t.status), C.int64_t(t.call.Elapsed())
	t.node.upstream = C.int32_t(t.call.Upstream())
	if !writeReply(t.node, t.fields, t.call.AttemptsJSON(), nil) {
		return core.ErrTooLarge
	}
	stage := C.uint32_t(C.VP_STAGE_HEAD)
	for {
		memory := t.park(stage)
		if len(memory) == 0 {
			return core.ErrCallerLeft
		}
		n, err := body.ReadArrived(memory)
		t.filled = n
		switch {
		case err == io.EOF, err == nil && body.Ended():
			return nil
		case err != nil:
			return err
		}
		t.node.direct_len, t.filled = C.uint64_t(n), 0
		stage = C.VP_STAGE_DATA
	}
}
