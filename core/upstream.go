package core

import (
	"crypto/tls"
	"time"

	"github.com/velithon/velithon-proxy/core/h1"
)

// Limits of one upstream.
const (
	connectTimeout = 3 * time.Second
	keepAlive      = 60 * time.Second // the feature document's connection keep-alive
	maxConnections = 512
	maxIdle        = 50 // the feature document's pool size per host
	maxWaiting     = 1024
	maxHeadBytes   = 64 << 10
	maxHeadFields  = 500
)

// upstream is one target and the connections to it.
type upstream struct {
	target    Target
	transport *h1.Transport
}

func newUpstream(target Target) *upstream {
	options := h1.Options{
		Network:        "tcp",
		Address:        target.Address,
		Authority:      target.Host,
		ConnectTimeout: connectTimeout,
		KeepAlive:      keepAlive,
		MaxConnections: maxConnections,
		MaxIdle:        maxIdle,
		MaxWaiting:     maxWaiting,
		MaxHeadBytes:   maxHeadBytes,
		MaxHeadFields:  maxHeadFields,
	}
	if target.TLS {
		options.TLS = &tls.Config{
			ServerName:         target.ServerName,
			NextProtos:         []string{"http/1.1"},
			MinVersion:         tls.VersionTLS12,
			ClientSessionCache: tls.NewLRUClientSessionCache(0),
		}
	}
	return &upstream{target: target, transport: h1.NewTransport(options)}
}
