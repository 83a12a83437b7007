package core

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"github.com/velithon/velithon-proxy/core/breaker"
	"github.com/velithon/velithon-proxy/core/h1"
	"github.com/velithon/velithon-proxy/core/retry"
)

// transportOptions is what the transports of all upstreams have in common.
func (c *Config) transportOptions() h1.Options {
	return h1.Options{
		ConnectTimeout:   milliseconds(c.ConnectTimeoutMS),
		PoolTimeout:      milliseconds(c.PoolTimeoutMS),
		FirstByteTimeout: milliseconds(c.FirstByteTimeoutMS),
		IdleTimeout:      milliseconds(c.IdleTimeoutMS),
		KeepAlive:        milliseconds(c.KeepaliveExpiryMS),
		MaxConnections:   c.MaxConnections,
		MaxIdle:          c.MaxIdleConnections,
		MaxWaiting:       c.MaxWaiting,
		MaxHeadBytes:     c.MaxResponseHead,
		MaxHeadFields:    c.MaxResponseFields,
		MaxRequestBody:   c.MaxRequestBody,
		MaxResponseBody:  c.MaxResponseBody,
	}
}

func (c *Config) retryPolicy() retry.Policy {
	return retry.Policy{
		MaxRetries:    c.MaxRetries,
		Statuses:      c.RetryStatuses,
		Methods:       c.RetryMethods,
		BaseDelay:     milliseconds(c.RetryBaseDelayMS),
		MaxDelay:      milliseconds(c.RetryMaxDelayMS),
		MaxRetryAfter: milliseconds(c.RetryMaxAfterMS),
	}
}

func (c *Config) breakerSettings() breaker.Settings {
	settings := breaker.Settings{
		MaxFailures: c.MaxFailures,
		OpenTime:    c.RecoveryTimeout(),
		MaxOpenTime: milliseconds(c.BreakerMaxOpenMS),
		MaxProbes:   c.BreakerProbes,
		Lease:       c.Timeout(), // a stream may take longer: then the next request is the probe
	}
	if c.BreakerRatio > 0 {
		settings.Ratio = c.BreakerRatio
		settings.Window = milliseconds(c.BreakerWindowMS)
		settings.MinSamples = c.BreakerMinSamples
	}
	return settings
}

// retryAfter reads Retry-After (RFC 9110 section 10.2.3): seconds, or a date.
func retryAfter(fields Fields) (after time.Duration, found bool) {
	value, found := fields.Get("retry-after")
	if !found {
		return 0, false
	}
	text := string(bytes.TrimSpace(value))
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	if at, err := time.Parse("Mon, 02 Jan 2006 15:04:05 GMT", text); err == nil {
		return max(time.Until(at), 0), true
	}
	return 0, false
}

// hashField finds the key of consistent_hash in a request: on is "header:NAME" or "cookie:NAME".
func hashField(fields Fields, on string) []byte {
	kind, name, _ := strings.Cut(on, ":")
	if kind == "header" {
		value, _ := fields.Get(strings.ToLower(name))
		return value
	}
	for field, value := range fields.All {
		if !bytes.EqualFold(field, []byte("cookie")) {
			continue
		}
		for pair := range bytes.SplitSeq(value, []byte{';'}) { // RFC 6265 section 4.2.1
			if key, value, found := bytes.Cut(bytes.TrimSpace(pair), []byte{'='}); found && string(key) == name {
				return value
			}
		}
	}
	return nil
}
