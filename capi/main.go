// Command capi builds the core as a C shared library, libvelithonproxy: the contract is abi.h.
//
// It only translates: nodes into calls, replies into nodes, errors into codes. Nothing in it decides anything, and no
// goroutine of it ever calls back into the process that loaded it.
//
// The bridge pushes nodes onto one queue; one goroutine takes them (consume.go) and starts a call for each without
// waiting for it (task.go). The goroutine on which a call ends copies the reply into the node and pushes the node onto
// the queue it names (queue.go).
package main

/*
#include "queue.h"
*/
import "C"

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/velithon/velithon-proxy/core"
)

// defaultGCPercent trades memory for time: the live heap of a gateway is a few megabytes.
const defaultGCPercent = 400

func main() {}

//export vp_abi_version
func vp_abi_version() C.uint32_t { return C.VP_ABI_VERSION }

var started atomic.Bool

//export vp_start
func vp_start(options *C.vp_options, failure *C.vp_error) (code C.int32_t) {
	defer recoverInto(failure, &code)
	if options.abi_version != C.VP_ABI_VERSION {
		return fail(failure, core.CodeInternal, fmt.Sprintf("the bridge speaks ABI %d and the core ABI %d: reinstall velithon-proxy", options.abi_version, C.VP_ABI_VERSION))
	}
	if started.Swap(true) {
		return fail(failure, core.CodeInternal, "the core was started before")
	}
	procs := int(options.max_procs)
	if procs <= 0 {
		// One processor stays free for the event loop: with busy goroutines on all of them it waits its turn for
		// milliseconds. More than two have brought nothing.
		procs = min(2, max(1, runtime.GOMAXPROCS(0)-1))
	}
	runtime.GOMAXPROCS(procs)
	percent := int(options.gc_percent)
	if percent == 0 {
		percent = defaultGCPercent
	}
	debug.SetGCPercent(percent)
	if options.memory_limit > 0 {
		debug.SetMemoryLimit(int64(options.memory_limit))
	}
	clockOffset, clockStart = int64(C.vp_now()), time.Now()
	if err := startConsumer(options.submit); err != nil {
		return fail(failure, core.CodeInternal, err.Error())
	}
	return 0
}

// The clock of both sides read clockOffset nanoseconds at clockStart.
var (
	clockStart  time.Time
	clockOffset int64
)

// timeOf is the time at which that clock had this reading.
func timeOf(reading C.int64_t) time.Time {
	return clockStart.Add(time.Duration(int64(reading) - clockOffset))
}

// pools maps handles to pools. Handles are never used again.
var pools struct {
	sync.RWMutex
	open map[uint64]*core.Pool
	last uint64
}

func pool(handle uint64) *core.Pool {
	pools.RLock()
	defer pools.RUnlock()
	return pools.open[handle]
}

//export vp_pool_new
func vp_pool_new(config *C.uint8_t, size C.uint64_t, failure *C.vp_error) (handle C.uint64_t) {
	var code C.int32_t
	defer recoverInto(failure, &code)
	parsed, err := core.ParseConfig(borrow(C.vp_span{data: config, size: size}))
	if err != nil {
		fail(failure, core.CodeConfiguration, err.Error())
		return 0
	}
	p, err := core.NewPool(parsed)
	if err != nil {
		fail(failure, core.CodeConfiguration, err.Error())
		return 0
	}
	pools.Lock()
	defer pools.Unlock()
	if pools.open == nil {
		pools.open = map[uint64]*core.Pool{}
	}
	pools.last++
	pools.open[pools.last] = p
	return C.uint64_t(pools.last)
}

//export vp_pool_close
func vp_pool_close(handle C.uint64_t) {
	defer recoverAlone()
	pools.Lock()
	p := pools.open[uint64(handle)]
	delete(pools.open, uint64(handle))
	pools.Unlock()
	if p != nil {
		p.Close()
	}
}

//export vp_pool_snapshot
func vp_pool_snapshot(handle C.uint64_t, json **C.uint8_t, size *C.uint64_t, failure *C.vp_error) (code C.int32_t) {
	defer recoverInto(failure, &code)
	p := pool(uint64(handle))
	if p == nil {
		return fail(failure, core.CodeClientClosed, "the client is closed")
	}
	data, err := p.Snapshot().MarshalJSON()
	if err != nil {
		return fail(failure, core.CodeInternal, err.Error())
	}
	*json, *size = give(data), C.uint64_t(len(data))
	return 0
}

//export vp_stats
func vp_stats(counters *C.vp_counters) {
	defer recoverAlone()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	pools.RLock()
	counters.pools = C.uint64_t(len(pools.open))
	pools.RUnlock()
	counters.in_flight = C.uint64_t(inFlight.Load())
	counters.goroutines = C.uint64_t(runtime.NumGoroutine())
	counters.heap_bytes = C.uint64_t(memory.HeapAlloc)
	counters.panics = C.uint64_t(panics.Load() + core.Panics())
}

// panics counts what was recovered since the start.
var panics atomic.Uint64

// fail writes an error for the caller and returns its code.
func fail(failure *C.vp_error, code core.Code, text string) C.int32_t {
	failure.code = C.uint32_t(code)
	failure.size = C.uint32_t(copy(errorText(failure), text))
	return C.int32_t(code)
}

func recoverInto(failure *C.vp_error, code *C.int32_t) {
	if cause := recover(); cause != nil {
		panics.Add(1)
		*code = fail(failure, core.CodeInternal, fmt.Sprintf("panic in the core: %v", cause))
	}
}

func recoverAlone() {
	if recover() != nil {
		panics.Add(1)
	}
}
