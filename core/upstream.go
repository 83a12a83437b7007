package core

import (
	"github.com/velithon/velithon-proxy/core/h1"
)

// upstream is one target and the connections to it.
type upstream struct {
	target    Target
	transport *h1.Transport
}

// newUpstream expects a configuration that was validated.
func newUpstream(target Target, config *Config) *upstream {
	secure, _ := config.tlsFor(target) // the error was found by Validate
	return &upstream{target: target, transport: h1.NewTransport(h1.Options{
		Network:          target.Network,
		Address:          target.Address,
		Authority:        target.Host,
		TLS:              secure,
		ConnectTimeout:   milliseconds(config.ConnectTimeoutMS),
		PoolTimeout:      milliseconds(config.PoolTimeoutMS),
		FirstByteTimeout: milliseconds(config.FirstByteTimeoutMS),
		IdleTimeout:      milliseconds(config.IdleTimeoutMS),
		KeepAlive:        milliseconds(config.KeepaliveExpiryMS),
		MaxConnections:   config.MaxConnections,
		MaxIdle:          config.MaxIdleConnections,
		MaxWaiting:       config.MaxWaiting,
		MaxHeadBytes:     config.MaxResponseHead,
		MaxHeadFields:    config.MaxResponseFields,
		MaxRequestBody:   config.MaxRequestBody,
		MaxResponseBody:  config.MaxResponseBody,
	})}
}
