// Command reverseproxy is net/http's ReverseProxy before one upstream, on one processor, as a gateway to compare with.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"runtime"
)

func main() {
	port := flag.Int("port", 0, "port of 127.0.0.1 to listen on")
	upstream := flag.String("upstream", "", "http://host:port")
	flag.Parse()
	target, err := url.Parse(*upstream)
	if err != nil || target.Host == "" {
		log.Fatalf("reverseproxy: -upstream: want http://host:port, got %q", *upstream)
	}
	runtime.GOMAXPROCS(1)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 1024
	transport.DisableCompression = true
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	server := &http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", *port), Handler: proxy, ErrorLog: proxy.ErrorLog}
	log.Fatal(server.ListenAndServe())
}
