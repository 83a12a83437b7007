package h1

import "sync/atomic"

// Panics counts those that Recover has caught.
var Panics atomic.Uint64

// Recover, deferred by what a timer or a goroutine runs, catches a panic: it must not end the process the core lives in.
// Where there is an exchange to tell, its goroutine does that.
func Recover() {
	if recover() != nil {
		Panics.Add(1)
	}
}
