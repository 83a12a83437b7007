//go:build debug

package main

import (
	"os"
	"runtime"
	"runtime/pprof"
	"time"
)

// Set by the linker: tools/debug_package.sh builds a copy of the package with this file in it. Nothing of it is in a core
// that users get.
var (
	cpuProfile   string // a file for a CPU profile of the first profileFor after profileFrom
	profileFrom  = "1s"
	profileFor   = "5s"
	collectEvery string // a duration: the garbage collector runs that often
)

func init() {
	if cpuProfile != "" {
		go profile(duration(profileFrom), duration(profileFor))
	}
	if collectEvery != "" {
		pause := duration(collectEvery)
		go func() {
			for {
				time.Sleep(pause)
				runtime.GC()
			}
		}()
	}
}

func profile(from, length time.Duration) {
	time.Sleep(from)
	file, err := os.Create(cpuProfile)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	if err := pprof.StartCPUProfile(file); err != nil {
		panic(err)
	}
	time.Sleep(length)
	pprof.StopCPUProfile()
}

func duration(text string) time.Duration {
	parsed, err := time.ParseDuration(text)
	if err != nil {
		panic(err)
	}
	return parsed
}
