package main

/*
#include <stdlib.h>
#include "queue.h"
*/
import "C"

import (
	"sync/atomic"
	"unsafe"
)

// This file is the only one that makes Go values of C memory and the other way round.

// borrow views a span as bytes. The memory belongs to the bridge: it is read, never written, and not kept beyond the
// completion of its node.
func borrow(span C.vp_span) []byte {
	if span.size == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(span.data)), int(span.size))
}

// borrowString is borrow for text.
func borrowString(span C.vp_span) string {
	if span.size == 0 {
		return ""
	}
	return unsafe.String((*byte)(unsafe.Pointer(span.data)), int(span.size))
}

// directBuffer views the memory that the bridge allocated for a body; nil if it could not.
func directBuffer(node *C.vp_node) []byte {
	if node.direct == nil {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(node.direct)), int(node.direct_len))
}

// replyBytes views the node's reply memory, which holds at least size bytes.
func replyBytes(node *C.vp_node, size int) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(node.reply)), size)
}

// give copies bytes into memory that C frees.
func give(b []byte) *C.uint8_t { return (*C.uint8_t)(C.CBytes(b)) }

func errorText(failure *C.vp_error) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&failure.text)), len(failure.text))
}

// The atomic members of a queue; queue.go asserts their offsets.
func headOf(queue *C.vp_queue) *atomic.Uintptr { return (*atomic.Uintptr)(unsafe.Pointer(queue)) }

func sleepingOf(queue *C.vp_queue) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Add(unsafe.Pointer(queue), 8))
}

func pushingOf(queue *C.vp_queue) *atomic.Int32 {
	return (*atomic.Int32)(unsafe.Add(unsafe.Pointer(queue), 12))
}

// Nodes are C memory: the collector neither moves nor frees them, so an address is as good as a pointer.
func addressOf(node *C.vp_node) uintptr { return uintptr(unsafe.Pointer(node)) }

func nodeAt(address uintptr) *C.vp_node { return *(**C.vp_node)(unsafe.Pointer(&address)) }

func setNext(node *C.vp_node, address uintptr) { node.next = nodeAt(address) }
