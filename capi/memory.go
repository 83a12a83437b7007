package main

/*
#include <stdlib.h>
#include "abi.h"
*/
import "C"

import (
	"unsafe"
)

// This file is the only one of the core that makes Go values of C memory and the other way round.

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

// lend passes bytes to a C function for the time of the call.
func lend(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

// give copies bytes into memory that C frees.
func give(b []byte) *C.uint8_t { return (*C.uint8_t)(C.CBytes(b)) }

func errorText(failure *C.vp_error) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&failure.text)), len(failure.text))
}
