package main

/*
#include "abi.h"
*/
import "C"

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/velithon/velithon-proxy/core"
)

// task is the Go side of a node: one for each slot, used again and again, so that a request allocates nothing here.
type task struct {
	node   *C.vp_node
	call   core.Call
	status int
	fields core.Fields
	body   []byte // a small body
	filled int    // bytes of the body in the node's direct memory
	err    *core.Error
	took   time.Duration
	upload pieces

	mu        sync.Mutex         // guards what follows: who has the node
	parked    bool               // the bridge has it, in the middle of the request
	over      bool               // and the request is over meanwhile
	controls  C.uint32_t         // generation of the control node under way; zero: none
	stop      context.CancelFunc // ends it
	memory    chan []byte
	cancelled chan struct{}
}

// inFlight counts the REQUEST and CONTROL nodes that are not answered, parked ones too.
var inFlight atomic.Int64

// tasks finds the task of a slot. Chunks are never moved or freed: a task is looked up without a lock.
var tasks struct {
	chunks [1 << 12]atomic.Pointer[[chunkSize]task]
	grow   sync.Mutex
}

const chunkSize = 1 << 10

func taskOf(slot uint32) *task {
	chunk := tasks.chunks[slot/chunkSize].Load()
	if chunk == nil {
		chunk = growTasks(slot / chunkSize)
	}
	return &chunk[slot%chunkSize]
}

func growTasks(index uint32) *[chunkSize]task {
	tasks.grow.Lock()
	defer tasks.grow.Unlock()
	chunk := tasks.chunks[index].Load()
	if chunk == nil {
		chunk = new([chunkSize]task)
		tasks.chunks[index].Store(chunk)
	}
	return chunk
}

// handle takes over one node. It never waits.
func handle(node *C.vp_node) {
	defer func() {
		if cause := recover(); cause != nil {
			panics.Add(1)
			answerError(node, &core.Error{Code: core.CodeInternal, Message: fmt.Sprintf("panic in the core: %v", cause)}, 0)
		}
	}()
	switch node.kind {
	case C.VP_KIND_REQUEST:
		inFlight.Add(1)
		taskOf(uint32(node.slot)).start(node)
	case C.VP_KIND_CANCEL:
		slot, generation := uint32(node.argument>>32), C.uint32_t(node.argument&0xffffffff)
		taskOf(slot).cancel(generation)
		answer(node, nil)
	case C.VP_KIND_BUFFER:
		taskOf(uint32(node.slot)).unpark(node)
	case C.VP_KIND_PIECE:
		slot, generation := uint32(node.argument>>32), C.uint32_t(node.argument&0xffffffff)
		taskOf(slot).upload.offer(generation, node)
	case C.VP_KIND_CONTROL:
		taskOf(uint32(node.slot)).control(node)
	case C.VP_KIND_NOOP:
		answer(node, nil)
	case C.VP_KIND_PANIC:
		panic("provoked by the caller")
	case C.VP_KIND_BURN:
		go burn(node)
	default:
		answerError(node, &core.Error{Code: core.CodeInternal, Message: "unknown kind of node"}, 0)
	}
}

func (t *task) start(node *C.vp_node) {
	p := pool(uint64(node.pool))
	if p == nil {
		inFlight.Add(-1)
		answerError(node, &core.Error{Code: core.CodeClientClosed, Message: "the client is closed"}, 0)
		return
	}
	if t.memory == nil {
		t.memory, t.cancelled = make(chan []byte, 1), make(chan struct{}, 1)
	}
	t.node, t.filled, t.err = node, 0, nil
	t.call.Stream = node.flags&C.VP_FLAG_STREAM != 0
	t.call.ID = uint64(node.generation)
	t.call.Sink = t
	t.call.Started = timeOf(node.submitted_ns)
	t.call.Timeout = time.Duration(node.timeout_ns)
	t.call.Key = borrow(node.key)
	t.call.Request = core.Request{
		Method:       borrowString(node.method),
		Target:       borrowString(node.target),
		Fields:       borrow(node.fields),
		Body:         borrow(node.body),
		Gateway:      node.flags&C.VP_FLAG_GATEWAY != 0,
		PreserveHost: node.flags&C.VP_FLAG_PRESERVE_HOST != 0,
	}
	if node.flags&C.VP_FLAG_UPLOAD != 0 {
		t.upload.open(node.generation)
		t.call.Request.Source = &t.upload
	}
	p.Start(&t.call)
}

// Respond implements core.Sink.
func (t *task) Respond(head *core.Head, body *core.Body) error {
	t.status, t.fields = head.Status, head.Fields
	if t.call.Stream {
		return t.stream(body)
	}
	length := body.Length()
	switch {
	case length >= C.VP_DIRECT_MIN:
		memory := t.ask(length)
		if memory == nil {
			return core.ErrTooLarge
		}
		_, err := io.ReadFull(body, memory)
		t.filled = len(memory)
		return err
	case length >= 0:
		data, err := body.Whole()
		if err != nil {
			return err
		}
		t.body = data
		return nil
	}
	return t.collect(body)
}

// A body of unknown length is collected in pieces of these sizes. One that never ends must not take the process with it.
const (
	firstCollected = 16 << 10
	mostCollected  = 1 << 20
	maxCollected   = 1 << 30
)

// collect reads a body of unknown length. Its pieces stay where they are until the size is known: growing one piece of
// memory would copy, and hold, a large body several times over.
func (t *task) collect(body *core.Body) error {
	var pieces [][]byte
	total := 0
	for size := firstCollected; ; size = min(2*size, mostCollected) {
		piece := make([]byte, size)
		n, err := io.ReadFull(body, piece)
		pieces = append(pieces, piece[:n])
		total += n
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return err
		}
		if total > maxCollected {
			return core.ErrTooLarge
		}
	}
	if total < C.VP_DIRECT_MIN {
		t.body = bytes.Join(pieces, nil)
		return nil
	}
	memory := t.ask(int64(total))
	if memory == nil {
		return core.ErrTooLarge
	}
	for _, piece := range pieces {
		t.filled += copy(memory[t.filled:], piece)
	}
	return nil
}

// ask has the bridge allocate memory for the body, so that the bytes the caller gets are the ones the socket was read
// into.
func (t *task) ask(size int64) []byte {
	t.node.direct_len = C.uint64_t(size)
	return t.park(C.VP_STAGE_BUFFER)
}

// Done implements core.Sink. A node that is away is answered when it comes back.
func (t *task) Done(err *core.Error) {
	t.err, t.took = err, t.call.Elapsed()
	if err != nil && err.Code == core.CodeInternal {
		panics.Add(1)
	}
	t.mu.Lock()
	away := t.parked
	t.over = away
	t.mu.Unlock()
	if !away {
		t.answer()
	}
}

// answer completes the request. The node is pushed last: from then on the slot may serve another one.
func (t *task) answer() {
	select { // memory that came when the request was on its way out
	case <-t.memory:
	default:
	}
	select {
	case <-t.cancelled:
	default:
	}
	node, status, fields, body, filled, err, took := t.node, t.status, t.fields, t.body, t.filled, t.err, t.took
	attempts := t.call.AttemptsJSON()
	t.node, t.fields, t.body, t.err = nil, nil, nil, nil
	t.call.Request, t.call.Key = core.Request{}, nil
	inFlight.Add(-1)
	node.direct_len = C.uint64_t(filled)
	node.upstream = C.int32_t(t.call.Upstream())
	if err != nil {
		describe(node, err, took)
		complete(node, []byte(err.Message), attempts, nil)
		return
	}
	node.code, node.status, node.elapsed_ns = C.VP_CODE_OK, C.uint32_t(status), C.int64_t(took)
	complete(node, fields, attempts, body)
}

// answer copies a reply without header lines into the node and pushes the node: it is the bridge's again.
func answer(node *C.vp_node, body []byte) {
	node.code = C.VP_CODE_OK
	complete(node, nil, nil, body)
}

// complete copies the reply into the node and pushes the node.
func complete(node *C.vp_node, head, attempts, body []byte) {
	if !writeReply(node, head, attempts, body) {
		node.code = C.VP_CODE_BODY_TOO_LARGE
	}
	node.stage = C.VP_STAGE_DONE
	push(node.reply_to, node)
}

// writeReply copies the parts of a reply into the node's reply memory, if there is enough memory to be had.
func writeReply(node *C.vp_node, head, attempts, body []byte) bool {
	size := len(head) + len(attempts) + len(body)
	memory := reply(node, size)
	if size > 0 && memory == nil {
		node.fields_size, node.attempts_size, node.reply_size = 0, 0, 0
		return false
	}
	memory = memory[copy(memory, head):]
	copy(memory[copy(memory, attempts):], body)
	node.fields_size, node.attempts_size, node.reply_size = C.uint32_t(len(head)), C.uint32_t(len(attempts)), C.uint64_t(size)
	return true
}

// answerError completes a node that no call was made for.
func answerError(node *C.vp_node, err *core.Error, elapsed time.Duration) {
	node.upstream = -1
	describe(node, err, elapsed)
	complete(node, []byte(err.Message), nil, nil)
}

// describe notes an error in the node, but for its text.
func describe(node *C.vp_node, err *core.Error, elapsed time.Duration) {
	node.code = C.uint32_t(err.Code)
	node.phase = C.uint32_t(err.Phase)
	node.outcome = outcome(err)
	node.elapsed_ns = C.int64_t(elapsed)
	node.retry_after_ns = C.int64_t(err.RetryAfter)
}

func outcome(err *core.Error) (bits C.uint32_t) {
	if err.Sent {
		bits |= C.VP_OUTCOME_SENT
	}
	if err.Reused {
		bits |= C.VP_OUTCOME_REUSED
	}
	if err.Responded {
		bits |= C.VP_OUTCOME_RESPONDED
	}
	if err.Source {
		bits |= C.VP_OUTCOME_SOURCE
	}
	return bits
}
