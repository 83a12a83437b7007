package main

/*
#include <stddef.h>
#include <stdlib.h>
#include "queue.h"

_Static_assert(offsetof(vp_queue, head) == 0 && offsetof(vp_queue, sleeping) == 8 && offsetof(vp_queue, pushing) == 12,
               "memory.go reads vp_queue by offset");

static uint8_t *vp_reply_grow(vp_node *node, uint64_t size) {
	free(node->reply);
	node->reply = malloc(size);
	node->reply_cap = node->reply != NULL ? size : 0;
	return node->reply;
}
*/
import "C"

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// This is queue.h for the Go side: the same algorithm on the same memory. A cgo call for each step would cost more than
// the step, and would tell the scheduler each time that this thread may be about to wait.

// push gives a node to the other side.
func push(queue *C.vp_queue, node *C.vp_node) {
	pushing := pushingOf(queue)
	pushing.Add(1)
	head := headOf(queue)
	for {
		old := head.Load()
		setNext(node, old)
		if head.CompareAndSwap(old, addressOf(node)) {
			break
		}
	}
	if sleeping := sleepingOf(queue); sleeping.Load() != 0 && sleeping.Swap(0) != 0 {
		wake(int(queue.wake_fd))
	}
	pushing.Add(-1)
}

// takeAll takes all nodes, oldest first; nil when there are none.
func takeAll(queue *C.vp_queue) (ordered *C.vp_node) {
	for node := nodeAt(headOf(queue).Swap(0)); node != nil; {
		next := node.next
		node.next = ordered
		ordered, node = node, next
	}
	return ordered
}

// sleep announces that the consumer will wait. false: a node came in between, take again.
func sleep(queue *C.vp_queue) bool {
	sleepingOf(queue).Store(1)
	if headOf(queue).Load() == 0 {
		return true
	}
	sleepingOf(queue).Store(0)
	return false
}

// wake writes eight bytes to an eventfd or a pipe. EAGAIN means that a wake-up is waiting there already.
func wake(fd int) {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	for {
		if err := writeWake(fd, one[:]); err != unix.EINTR {
			return
		}
	}
}

// reply returns size bytes of the node's reply memory, or nil if there is no memory.
func reply(node *C.vp_node, size int) []byte {
	if uint64(size) > uint64(node.reply_cap) {
		if C.vp_reply_grow(node, C.uint64_t(max(size, 512))) == nil {
			return nil
		}
	}
	return replyBytes(node, size)
}
