package core

import "time"

//go:generate go run github.com/mailru/easyjson/easyjson@v0.9.2 -no_std_marshalers -disallow_unknown_fields config.go

// maxMilliseconds is one day. A longer limit is a mistake: seconds given as milliseconds, or "never".
const maxMilliseconds = 86_400_000

// Config describes a pool. It is a value: changing it after the pool was opened changes nothing. Start from
// DefaultConfig or ParseConfig; the zero Config is refused by Validate.
//
//easyjson:json
type Config struct {
	// Targets are the upstreams: "http://host", "https://host:port", "http://[v6]:port", or "host:port", which
	// means http. There is no default: at least one is needed, each only once. See ParseTarget.
	Targets []string `json:"targets"`

	// TimeoutMS bounds one call as a whole: queueing, connecting, every attempt, back-off and body. In
	// milliseconds, 1 to 86,400,000 (a day). Zero is refused: no call waits for ever. Default 30,000. Attempts
	// and their back-off share it, so it also bounds MaxRetries.
	TimeoutMS int64 `json:"timeout_ms"`

	// MaxRetries is how many attempts may follow the first. 0 to 10; zero means one attempt only. Default 3.
	// Only requests that are safe to send again are retried, and only while the timeout lasts.
	MaxRetries int `json:"max_retries"`

	// MaxFailures is how many consecutive failed attempts at one upstream open its circuit breaker. 1 to
	// 2,147,483,647, which is never in practice. Zero is refused: it would open before the first request.
	// Default 5. Every attempt counts, so one call with MaxRetries can bring several failures.
	MaxFailures int `json:"max_failures"`

	// RecoveryTimeoutMS is how long an open breaker refuses requests before it lets a probe through. In
	// milliseconds, 1 to 86,400,000 (a day). Zero is refused: the breaker would never be open. Default 60,000.
	RecoveryTimeoutMS int64 `json:"recovery_timeout_ms"`

	// Strategy chooses among several targets: one of balance.Names, spelled exactly so. Empty is refused. Default
	// "round_robin". With one target all of them are the same.
	Strategy string `json:"strategy"`

	// Weights are the shares of Targets, in their order, 0 to 1,000,000 each; a target of weight 0 gets nothing. Empty,
	// the default: all are equal. The strategies weighted, least_request and consistent_hash read them.
	Weights []int `json:"weights"`

	// Backups are upstreams that serve only while none of Targets can be used. The default is none.
	Backups []string `json:"backups"`

	// HashOn is where the strategy consistent_hash takes the key of a request from: "header:NAME", "cookie:NAME", or "key",
	// the call's own, which is what empty, the default, means. Requests without a key go anywhere.
	HashOn string `json:"hash_on"`

	// SlowStartMS is the time in which an upstream that is new, or usable again, rises to its full share. 0 to 86,400,000;
	// zero, the default: at once.
	SlowStartMS int64 `json:"slow_start_ms"`

	// PanicThreshold makes a pool use all of its upstreams, whatever breakers and probes say, while less than this share of
	// them can be used. 0 to 1; zero, the default: never.
	PanicThreshold float64 `json:"panic_threshold"`

	// WaitForHealthyMS is how long a request waits for an upstream to become usable when none is. 0 to 86,400,000; zero,
	// the default: it fails at once.
	WaitForHealthyMS int64 `json:"wait_for_healthy_ms"`

	// MaxInFlight bounds the requests of the whole pool that are under way; more wait, in their order, at most MaxWaiting
	// of them and at most PoolTimeoutMS. 0 to 1,000,000; zero, the default: no limit.
	MaxInFlight int `json:"max_in_flight"`

	// ConnectTimeoutMS bounds resolving, connecting and the TLS handshake of one connection. 1 to 86,400,000.
	// Default 3,000: an upstream that does not answer at all is given up early.
	ConnectTimeoutMS int64 `json:"connect_timeout_ms"`

	// PoolTimeoutMS bounds the wait for a connection while all are busy. 0 to 86,400,000; zero, the default: only
	// the limit of the whole call counts.
	PoolTimeoutMS int64 `json:"pool_timeout_ms"`

	// FirstByteTimeoutMS bounds the wait for the first byte of the response once the request was sent. 0 to
	// 86,400,000; zero, the default: only the limit of the whole call counts.
	FirstByteTimeoutMS int64 `json:"first_byte_timeout_ms"`

	// IdleTimeoutMS bounds the time in which nothing more of a body is received, or taken. 0 to 86,400,000; zero:
	// no such limit. Default 60,000.
	IdleTimeoutMS int64 `json:"idle_timeout_ms"`

	// TotalTimeoutMS replaces TimeoutMS and bounds streams as well, with their bodies. 0 to 86,400,000; zero, the
	// default: TimeoutMS counts, for streams until the head of the response.
	TotalTimeoutMS int64 `json:"total_timeout_ms"`

	// MaxConnections bounds the connections to one upstream; more requests wait. 1 to 100,000. Default 512.
	MaxConnections int `json:"max_connections"`

	// MaxIdleConnections is how many idle connections to one upstream are kept; what a burst leaves above it is
	// closed after a few quiet seconds. 0 to 100,000. Default 50, the pool size of the feature document.
	MaxIdleConnections int `json:"max_idle_connections"`

	// KeepaliveExpiryMS is how long an idle connection is kept. 1 to 86,400,000. Default 60,000. An upstream that
	// announces less (Keep-Alive: timeout) is believed.
	KeepaliveExpiryMS int64 `json:"keepalive_expiry_ms"`

	// MaxWaiting bounds the requests that wait for a connection to one upstream; more fail at once. 0 to 1,000,000.
	// Default 1,024.
	MaxWaiting int `json:"max_waiting"`

	// MaxResponseHead and MaxResponseFields bound the head of a response: in bytes, 1,024 to 16,777,216, default
	// 65,536; in header lines, 1 to 100,000, default 500.
	MaxResponseHead   int `json:"max_response_head"`
	MaxResponseFields int `json:"max_response_fields"`

	// MaxRequestBody and MaxResponseBody bound bodies in bytes. 0 to 2^53-1; zero, the default: no limit.
	MaxRequestBody  int64 `json:"max_request_body"`
	MaxResponseBody int64 `json:"max_response_body"`

	// What is retried, besides MaxRetries. RetryStatuses are responses that are taken for failures, 400 to 599 each; the
	// default is none. RetryMethods are methods that may be sent again although an upstream may have acted on them: "PUT"
	// and "DELETE"; the default is none but the safe ones. RetryIdempotencyKey trusts requests with that field. A body
	// larger than RetryMaxBody bytes (0 to 2^53-1, default 65,536) is not sent again. Pauses are random, up to
	// RetryBaseDelayMS (0 to 60,000, default 25) and doubled for each attempt up to RetryMaxDelayMS (default 250). A
	// Retry-After of up to RetryMaxAfterMS (default 10,000) is waited for. At most RetryBudget (0 to 1, default
	// 0.2) of the requests under way may be retries, but RetryBudgetMin (0 to 1,000,000, default 3) always may. A single
	// attempt may take TryTimeoutMS until the head of its response; zero, the default: as long as the call.
	RetryStatuses       []int    `json:"retry_statuses"`
	RetryMethods        []string `json:"retry_methods"`
	RetryIdempotencyKey bool     `json:"retry_idempotency_key"`
	RetryMaxBody        int64    `json:"retry_max_body"`
	RetryBaseDelayMS    int64    `json:"retry_base_delay_ms"`
	RetryMaxDelayMS     int64    `json:"retry_max_delay_ms"`
	RetryMaxAfterMS     int64    `json:"retry_max_after_ms"`
	RetryBudget         float64  `json:"retry_budget"`
	RetryBudgetMin      int      `json:"retry_budget_min"`
	TryTimeoutMS        int64    `json:"try_timeout_ms"`

	// What opens a breaker, besides MaxFailures and RecoveryTimeoutMS. BreakerStatuses are responses that count as failures,
	// 400 to 599 each; default 502, 503, 504. BreakerRatio, 0 to 1, opens it by the share of failures within
	// BreakerWindowMS (default 10,000) once there are BreakerMinSamples (default 20) instead of MaxFailures in a row; zero,
	// the default: in a row. BreakerProbes (1 to 1,000, default 1) requests may try a half-open one at a time. An opening
	// that follows another one takes that much longer, up to BreakerMaxOpenMS; zero, the default: always the same. Open
	// breakers keep at most BreakerMaxEjected (0 to 1, default 1) of a pool's upstreams out of use, but at least one: those
	// that opened first.
	BreakerStatuses   []int   `json:"breaker_statuses"`
	BreakerRatio      float64 `json:"breaker_ratio"`
	BreakerWindowMS   int64   `json:"breaker_window_ms"`
	BreakerMinSamples int     `json:"breaker_min_samples"`
	BreakerProbes     int     `json:"breaker_probes"`
	BreakerMaxOpenMS  int64   `json:"breaker_max_open_ms"`
	BreakerMaxEjected float64 `json:"breaker_max_ejected"`

	// HealthURL makes the pool probe its upstreams: a path that is asked at each of them, or a URL that is asked for each.
	// Empty, the default: no probes. Every HealthIntervalMS (default 10,000), give or take HealthJitter (0 to 0.5,
	// default 0.1) of it, within HealthTimeoutMS (default 2,000). HealthFall (default 3) failures in a row make an upstream
	// unhealthy, HealthRise (default 2) successes healthy again. HealthExpected are the ranges of statuses, both ends
	// included, that are successes; empty: 200 to 399. HealthHost is the Host of the probes if not the upstream's own, and
	// HealthHeaders are more fields of them.
	HealthURL        string     `json:"health_url"`
	HealthIntervalMS int64      `json:"health_interval_ms"`
	HealthTimeoutMS  int64      `json:"health_timeout_ms"`
	HealthRise       int        `json:"health_rise"`
	HealthFall       int        `json:"health_fall"`
	HealthJitter     float64    `json:"health_jitter"`
	HealthExpected   [][]int    `json:"health_expected"`
	HealthHost       string     `json:"health_host"`
	HealthHeaders    [][]string `json:"health_headers"`

	// The options of TLS; only for https targets. TLSCA are the certificates of the authorities that are trusted,
	// in PEM; empty, the default: those of the system. TLSCert and TLSKey are the client's own certificate chain and
	// key, in PEM. TLSServerName is the name that is asked for and checked instead of the target's. TLSMinVersion is
	// "1.2", the default, or "1.3". TLSInsecure checks no certificate at all.
	TLSCA         string `json:"tls_ca"`
	TLSCert       string `json:"tls_cert"`
	TLSKey        string `json:"tls_key"`
	TLSServerName string `json:"tls_server_name"`
	TLSMinVersion string `json:"tls_min_version"`
	TLSInsecure   bool   `json:"tls_insecure"`
}

// DefaultConfig holds every default of a pool; only Targets is left to fill in.
func DefaultConfig() Config {
	return Config{
		TimeoutMS:         30_000,
		MaxRetries:        3,
		MaxFailures:       5,
		RecoveryTimeoutMS: 60_000,
		Strategy:          "round_robin",

		ConnectTimeoutMS:   3_000,
		IdleTimeoutMS:      60_000,
		MaxConnections:     512,
		MaxIdleConnections: 50,
		KeepaliveExpiryMS:  60_000,
		MaxWaiting:         1_024,
		MaxResponseHead:    64 << 10,
		MaxResponseFields:  500,
		TLSMinVersion:      "1.2",

		RetryMaxBody:      64 << 10,
		RetryBaseDelayMS:  25,
		RetryMaxDelayMS:   250,
		RetryMaxAfterMS:   10_000,
		RetryBudget:       0.2,
		RetryBudgetMin:    3,
		BreakerStatuses:   []int{502, 503, 504},
		BreakerWindowMS:   10_000,
		BreakerMinSamples: 20,
		BreakerProbes:     1,
		BreakerMaxEjected: 1,
		HealthIntervalMS:  10_000,
		HealthTimeoutMS:   2_000,
		HealthRise:        2,
		HealthFall:        3,
		HealthJitter:      0.1,
	}
}

// Timeout is the limit of a call.
func (c *Config) Timeout() time.Duration {
	if c.TotalTimeoutMS > 0 {
		return milliseconds(c.TotalTimeoutMS)
	}
	return milliseconds(c.TimeoutMS)
}

// RecoveryTimeout is RecoveryTimeoutMS as a duration.
func (c *Config) RecoveryTimeout() time.Duration { return milliseconds(c.RecoveryTimeoutMS) }

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
