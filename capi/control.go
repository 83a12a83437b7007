package main

/*
#include "queue.h"
*/
import "C"

import (
	"context"
	"fmt"

	"github.com/velithon/velithon-proxy/core"
)

// control carries out an operation on a pool, on a goroutine of its own: some of them wait.
func (t *task) control(node *C.vp_node) {
	p := pool(uint64(node.pool))
	if p == nil {
		answerError(node, &core.Error{Code: core.CodeClientClosed, Message: "the client is closed"}, 0)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.mu.Lock()
	t.controls, t.stop = node.generation, cancel
	t.mu.Unlock()
	inFlight.Add(1)
	go func() {
		defer cancel()
		result, err := operate(ctx, p, borrowString(node.method), borrow(node.body))
		t.mu.Lock()
		t.controls, t.stop = 0, nil
		t.mu.Unlock()
		inFlight.Add(-1)
		if err != nil {
			answerError(node, err, 0)
			return
		}
		node.status = 200
		answer(node, result)
	}()
}

func operate(ctx context.Context, p *core.Pool, operation string, argument []byte) (result []byte, err *core.Error) {
	defer func() {
		if cause := recover(); cause != nil {
			panics.Add(1)
			err = &core.Error{Code: core.CodeInternal, Message: fmt.Sprintf("panic in the core: %v", cause)}
		}
	}()
	return p.Control(ctx, operation, argument)
}

// cancel ends what the task does for the node with this generation.
func (t *task) cancel(generation C.uint32_t) {
	t.mu.Lock()
	stop := t.stop
	controls := t.controls == generation && stop != nil
	t.mu.Unlock()
	if controls {
		stop()
		return
	}
	t.call.Cancel(uint64(generation))
}
