// Command goloop is the floor of the client benchmarks: the same requests as the Python clients send, from a bare Go
// loop on fasthttp.HostClient.Do, with no Python and no border.
//
// It speaks the protocol of benchmarks/client_cell.py: print one line when warm, then for every number of seconds read
// from standard input measure a window of that length and print it as one line of JSON; the end of the input ends it. A
// second number is a rate in requests per second: the window is then an open loop (open.go).
//
// With -core the same requests go over the transport of the core, driven from Go.
//
// HostClient.Do is not fit to carry gateway traffic (it repeats requests and merges header lines by itself); here it
// only marks what the machine and the protocol cost.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// result has the same keys as a window of a Python client (client_cell.py).
type result struct {
	Requests int     `json:"requests"`
	All      int64   `json:"all"` // with those of the ramp and the end, which are not counted
	Seconds  float64 `json:"seconds"`
	CPU      float64 `json:"cpu_us"`
	Rate     float64 `json:"rate"`
	P50      float64 `json:"p50_us"`
	P90      float64 `json:"p90_us"`
	P99      float64 `json:"p99_us"`
	P999     float64 `json:"p999_us"`
	MaxRSS   int64   `json:"max_rss_kb"`
}

func main() {
	opt, err := parseFlags()
	if err != nil {
		fmt.Fprintf(os.Stderr, "goloop: %v\n", err)
		flag.Usage()
		os.Exit(2)
	}
	l := newLoop(opt)
	if _, err := l.window(opt.warmup, 0); err != nil {
		log.Fatalf("goloop: %v", err)
	}
	answers := json.NewEncoder(os.Stdout)
	if err := answers.Encode(map[string]string{"version": runtime.Version()}); err != nil {
		log.Fatalf("goloop: %v", err)
	}
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		seconds, rate, err := parseOrder(orders.Text())
		if err != nil {
			log.Fatalf("goloop: %v", err)
		}
		measure := l.window
		if rate > 0 {
			measure = func(ramp, d time.Duration) (result, error) { return l.openWindow(rate, ramp, d) }
		}
		measured, err := measure(opt.ramp, time.Duration(seconds*float64(time.Second)))
		if err != nil {
			log.Fatalf("goloop: %v", err)
		}
		if err := answers.Encode(measured); err != nil {
			log.Fatalf("goloop: %v", err)
		}
	}
}

// parseOrder reads "seconds" or "seconds rate".
func parseOrder(line string) (seconds, rate float64, err error) {
	words := strings.Fields(line)
	if len(words) < 1 || len(words) > 2 {
		return 0, 0, fmt.Errorf("want seconds, or seconds and a rate, on standard input, got %q", line)
	}
	numbers := [2]float64{}
	for i, word := range words {
		if numbers[i], err = strconv.ParseFloat(word, 64); err != nil || numbers[i] <= 0 {
			return 0, 0, fmt.Errorf("want positive numbers on standard input, got %q", line)
		}
	}
	return numbers[0], numbers[1], nil
}

func parseFlags() (options, error) {
	var opt options
	flag.StringVar(&opt.address, "address", "", "host:port of the upstream")
	flag.StringVar(&opt.method, "method", "GET", "request method")
	flag.StringVar(&opt.path, "path", "/small", "request path")
	flag.IntVar(&opt.bodySize, "body", 0, "bytes of request body")
	flag.IntVar(&opt.wantSize, "want", 100, "bytes of response body that every answer must have")
	flag.IntVar(&opt.concurrency, "c", 64, "requests in flight")
	flag.DurationVar(&opt.warmup, "warmup", time.Second/2, "time before the first window")
	flag.DurationVar(&opt.ramp, "ramp", time.Second/10, "time at the start of each window that is not counted")
	flag.BoolVar(&opt.core, "core", false, "use the transport of core/h1 instead of HostClient.Do")
	flag.Func("header", "a request header as name:value; may be repeated", func(line string) error {
		name, value, found := strings.Cut(line, ":")
		if !found || name == "" {
			return fmt.Errorf("want name:value, got %q", line)
		}
		opt.headers = append(opt.headers, header{name, value})
		return nil
	})
	flag.Parse()
	if flag.NArg() > 0 {
		return opt, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if opt.address == "" {
		return opt, fmt.Errorf("-address is missing")
	}
	if opt.concurrency < 1 {
		return opt, fmt.Errorf("-c must be at least 1, got %d", opt.concurrency)
	}
	return opt, nil
}
