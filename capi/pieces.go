package main

/*
#include "queue.h"
*/
import "C"

import (
	"errors"
	"io"
	"sync"

	"github.com/velithon/velithon-proxy/core"
)

// pieces is the body of a request that the bridge sends piece by piece, each as a node of its own. It implements
// core.Source. A piece is answered once its bytes are on their way: that is the sign to send another one.
type pieces struct {
	mu         sync.Mutex
	more       sync.Cond
	generation C.uint32_t // of the request's node; zero while there is none
	waiting    []*C.vp_node
	current    *C.vp_node // its memory is being sent
	sent       []*C.vp_node
	sentSize   uint64
	last       bool // the last piece has been taken
	stopped    bool
}

var errBodyStopped = errors.New("the request is over")

func (p *pieces) open(generation C.uint32_t) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.more.L = &p.mu
	p.generation, p.last, p.stopped = generation, false, false
}

// offer takes a piece over, or refuses it because its request is over.
func (p *pieces) offer(generation C.uint32_t, node *C.vp_node) {
	p.mu.Lock()
	refused := p.stopped || p.generation != generation
	if !refused {
		p.waiting = append(p.waiting, node)
		p.more.Signal()
	}
	p.mu.Unlock()
	if refused {
		refuse(node)
	}
}

func refuse(node *C.vp_node) {
	answerError(node, &core.Error{Code: core.CodeCancelled, Message: errBodyStopped.Error()}, 0)
}

// Next implements core.Source.
func (p *pieces) Next() ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retire()
	if len(p.waiting) == 0 || p.sentSize >= sentTogether {
		p.release()
	}
	for len(p.waiting) == 0 && !p.last && !p.stopped {
		p.more.Wait()
	}
	switch {
	case p.stopped:
		return nil, errBodyStopped
	case len(p.waiting) == 0:
		return nil, io.EOF
	}
	p.current = p.waiting[0]
	p.waiting = append(p.waiting[:0], p.waiting[1:]...)
	p.last = p.current.flags&C.VP_FLAG_LAST != 0
	return borrow(p.current.body), nil
}

// sentTogether is how many bytes of pieces are answered together while more are waiting: each answer by itself would
// wake the event loop.
const sentTogether = 256 << 10

// retire notes that the current piece has been sent.
func (p *pieces) retire() {
	if p.current != nil {
		p.sent = append(p.sent, p.current)
		p.sentSize += uint64(p.current.body.size)
		p.current = nil
	}
}

// release answers the pieces that have been sent.
func (p *pieces) release() {
	for _, node := range p.sent {
		answer(node, nil)
	}
	p.sent, p.sentSize = p.sent[:0], 0
}

// Stop implements core.Source.
func (p *pieces) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	for _, node := range p.waiting {
		refuse(node)
	}
	p.waiting = p.waiting[:0]
	p.more.Broadcast()
}

// Close implements core.Source.
func (p *pieces) Close() {
	p.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retire()
	p.release()
	p.generation = 0
}
