package main

/*
#include "queue.h"
*/
import "C"

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"
)

// submissions is the file of the submit queue's wake-up. It stays reachable: a collected os.File closes its descriptor.
var submissions *os.File

// startConsumer starts the goroutine that takes nodes from the submit queue.
func startConsumer(queue *C.vp_queue) error {
	submissions = os.NewFile(uintptr(queue.wait_fd), "submit queue")
	wake, err := submissions.SyscallConn()
	if err != nil {
		return fmt.Errorf("the wake-up descriptor of the submit queue cannot be used: %w", err)
	}
	go func() {
		var nodes *C.vp_node
		// The poller waits; this function looks. A push between the look and the wait is seen by sleep or
		// causes an event.
		take := func(uintptr) bool {
			if queue.wait_fd != queue.wake_fd {
				C.vp_queue_drain_wake(queue) // a pipe; an eventfd makes an event with every write, read or not
			}
			for {
				if nodes = takeAll(queue); nodes != nil {
					return true
				}
				if sleep(queue) {
					return false
				}
			}
		}
		for {
			if err := wake.Read(take); err != nil {
				panic(fmt.Sprintf("submit queue: %v", err)) // the bridge closed the descriptor: nothing can be answered
			}
			for node := nodes; node != nil; {
				next := node.next // the node may be answered, and used again, before handle returns
				handle(node)
				node = next
			}
		}
	}()
	return nil
}

// burn keeps processors and the collector busy, to measure what that does to the event loop.
func burn(node *C.vp_node) {
	var group sync.WaitGroup
	end := time.Now().Add(time.Duration(node.timeout_ns))
	for range int(node.argument) {
		group.Go(func() {
			for time.Now().Before(end) {
				keep := make([][]byte, 0, 64)
				for range cap(keep) {
					keep = append(keep, make([]byte, 4096))
				}
				runtime.KeepAlive(keep)
			}
		})
	}
	group.Wait()
	answer(node, nil)
}
