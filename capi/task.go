package main

/*
#include "abi.h"
*/
import "C"

import (
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
	body   []byte      // a small body
	direct []byte      // a large body, in the bridge's memory
	buffer chan []byte // answers to VP_STAGE_BUFFER
}

// inFlight counts the nodes that the core owns.
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
		slot, generation := uint32(node.argument>>32), uint64(node.argument&0xffffffff)
		taskOf(slot).call.Cancel(generation)
		answer(node, nil, nil)
	case C.VP_KIND_BUFFER:
		taskOf(uint32(node.slot)).buffer <- directBuffer(node)
	case C.VP_KIND_NOOP:
		answer(node, nil, nil)
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
	t.node = node
	t.call.ID = uint64(node.generation)
	t.call.Sink = t
	t.call.Timeout = time.Duration(node.timeout_ns)
	t.call.Request = core.Request{
		Method:       borrowString(node.method),
		Target:       borrowString(node.target),
		Fields:       borrow(node.fields),
		Body:         borrow(node.body),
		Gateway:      node.flags&C.VP_FLAG_GATEWAY != 0,
		PreserveHost: node.flags&C.VP_FLAG_PRESERVE_HOST != 0,
	}
	p.Start(&t.call)
}

// Respond implements core.Sink.
func (t *task) Respond(head *core.Head, body *core.Body) error {
	t.status, t.fields = head.Status, head.Fields
	length := body.Length()
	switch {
	case length >= C.VP_DIRECT_MIN:
		if t.direct = t.ask(length); t.direct == nil {
			return core.ErrTooLarge
		}
		_, err := io.ReadFull(body, t.direct)
		return err
	case length >= 0:
		data, err := body.Whole()
		if err != nil {
			return err
		}
		t.body = data
		return nil
	}
	data, err := io.ReadAll(body)
	if err != nil || len(data) < C.VP_DIRECT_MIN {
		t.body = data
		return err
	}
	if t.direct = t.ask(int64(len(data))); t.direct == nil {
		return core.ErrTooLarge
	}
	copy(t.direct, data)
	return nil
}

// ask has the bridge allocate memory for the body, so that the bytes the caller gets are the ones the socket was read
// into. It waits for the event loop; a request that is cancelled meanwhile ends right after.
func (t *task) ask(size int64) []byte {
	if t.buffer == nil {
		t.buffer = make(chan []byte, 1)
	}
	t.node.direct_len = C.uint64_t(size)
	t.node.stage = C.VP_STAGE_BUFFER
	push(t.node.reply_to, t.node)
	return <-t.buffer
}

// Done implements core.Sink. The node is pushed last: from then on the slot may serve another request.
func (t *task) Done(err *core.Error) {
	node, status, fields, body, elapsed := t.node, t.status, t.fields, t.body, t.call.Elapsed()
	t.node, t.fields, t.body, t.direct = nil, nil, nil, nil
	t.call.Request = core.Request{}
	inFlight.Add(-1)
	if err != nil {
		if err.Code == core.CodeInternal {
			panics.Add(1)
		}
		answerError(node, err, elapsed)
		return
	}
	node.status = C.uint32_t(status)
	node.elapsed_ns = C.int64_t(elapsed)
	answer(node, fields, body)
}

// answer copies the reply into the node and pushes the node: it is the bridge's again.
func answer(node *C.vp_node, fields, body []byte) {
	node.code = C.VP_CODE_OK
	complete(node, fields, body)
}

func complete(node *C.vp_node, head, body []byte) {
	size := len(head) + len(body)
	if memory := reply(node, size); size == 0 || memory != nil {
		copy(memory[copy(memory, head):], body)
		node.fields_size, node.reply_size = C.uint32_t(len(head)), C.uint64_t(size)
	} else {
		node.code, node.fields_size, node.reply_size = C.VP_CODE_BODY_TOO_LARGE, 0, 0
	}
	node.stage = C.VP_STAGE_DONE
	push(node.reply_to, node)
}

func answerError(node *C.vp_node, err *core.Error, elapsed time.Duration) {
	node.code = C.uint32_t(err.Code)
	node.phase = C.uint32_t(err.Phase)
	node.outcome = outcome(err)
	node.elapsed_ns = C.int64_t(elapsed)
	complete(node, []byte(err.Message), nil)
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
	return bits
}
