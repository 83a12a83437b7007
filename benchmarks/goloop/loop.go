package main

import (
	"fmt"
	"log"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/velithon/velithon-proxy/core/h1"
)

type header struct{ name, value string }

type options struct {
	address     string
	method      string
	path        string
	bodySize    int
	wantSize    int
	concurrency int
	warmup      time.Duration
	ramp        time.Duration
	headers     []header
	core        bool
}

// loop is what the workers share. The samples of a window are those that complete while counting is set.
type loop struct {
	opt       options
	client    *fasthttp.HostClient
	transport *h1.Transport
	body      []byte
	counting  atomic.Bool
	stop      atomic.Bool
	all       atomic.Int64 // requests of the window, counted or not
}

func newLoop(opt options) *loop {
	return &loop{
		opt: opt,
		client: &fasthttp.HostClient{
			Addr:                          opt.address,
			MaxConns:                      max(opt.concurrency, openWorkers) + 8,
			MaxIdleConnDuration:           5 * time.Minute,
			DisableHeaderNamesNormalizing: true,
			NoDefaultUserAgentHeader:      true,
		},
		transport: newTransport(opt),
		body:      []byte(strings.Repeat("y", opt.bodySize)),
	}
}

// worker sends requests until it is told to stop and returns the latencies of those that were counted.
type worker func() ([]time.Duration, error)

// window measures a closed loop: each worker sends its next request when its last one is answered.
func (l *loop) window(ramp, d time.Duration) (result, error) {
	work := l.work
	if l.opt.core {
		work = l.workOnCore
	}
	return l.measure(l.opt.concurrency, work, ramp, d)
}

// measure starts the workers, lets them run for ramp, counts for d and stops them. Requests are in flight at both ends
// of the counted time, so that neither start nor end shows in it.
func (l *loop) measure(count int, work worker, ramp, d time.Duration) (result, error) {
	l.stop.Store(false)
	l.all.Store(0)
	perWorker := make([][]time.Duration, count)
	failures := make([]error, count)
	var workers sync.WaitGroup
	for i := range count {
		workers.Go(func() { perWorker[i], failures[i] = work() })
	}
	time.Sleep(ramp)
	cpuBefore, started := resources().cpu, time.Now()
	l.counting.Store(true)
	time.Sleep(d)
	l.counting.Store(false)
	elapsed, used := time.Since(started), resources()
	l.stop.Store(true)
	workers.Wait()

	for _, err := range failures {
		if err != nil {
			return result{}, err
		}
	}
	latencies := slices.Concat(perWorker...)
	n := len(latencies)
	if n == 0 {
		return result{}, nil
	}
	slices.Sort(latencies)
	return result{
		Requests: n,
		All:      l.all.Load(),
		Seconds:  elapsed.Seconds(),
		CPU:      microseconds(used.cpu-cpuBefore) / float64(n),
		Rate:     float64(n) / elapsed.Seconds(),
		P50:      microseconds(latencies[n/2]),
		P90:      microseconds(latencies[n*90/100]),
		P99:      microseconds(latencies[n*99/100]),
		P999:     microseconds(latencies[n*999/1000]),
		MaxRSS:   used.maxRSS,
	}, nil
}

func (l *loop) work() ([]time.Duration, error) {
	var latencies []time.Duration
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	for !l.stop.Load() {
		started := time.Now()
		l.fill(request)
		if err := l.exchange(request, response); err != nil {
			return nil, err
		}
		l.all.Add(1)
		if l.counting.Load() {
			latencies = append(latencies, time.Since(started))
		}
	}
	return latencies, nil
}

// exchange sends a request that was filled in and checks what comes back.
func (l *loop) exchange(request *fasthttp.Request, response *fasthttp.Response) error {
	if err := l.client.Do(request, response); err != nil {
		return err
	}
	if response.StatusCode() != fasthttp.StatusOK || len(response.Body()) != l.opt.wantSize {
		return fmt.Errorf("status %d with %d bytes, want 200 with %d",
			response.StatusCode(), len(response.Body()), l.opt.wantSize)
	}
	return nil
}

// fill builds the request anew, as the Python clients must for every call.
func (l *loop) fill(request *fasthttp.Request) {
	request.Reset()
	request.Header.SetMethod(l.opt.method)
	request.SetRequestURI(l.opt.path)
	request.Header.SetHost(l.opt.address)
	for _, h := range l.opt.headers {
		request.Header.Add(h.name, h.value)
	}
	if len(l.body) > 0 {
		request.SetBodyRaw(l.body)
	}
}

type usage struct {
	cpu    time.Duration // user and system time of the process so far
	maxRSS int64         // kilobytes
}

func resources() usage {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		log.Fatalf("goloop: getrusage: %v", err)
	}
	u := usage{cpu: time.Duration(r.Utime.Nano() + r.Stime.Nano()), maxRSS: r.Maxrss}
	if runtime.GOOS == "darwin" { // macOS counts bytes, Linux kilobytes
		u.maxRSS /= 1024
	}
	return u
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
