package core

import (
	"crypto/tls"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/velithon/velithon-proxy/core/balance"
	"github.com/velithon/velithon-proxy/core/h1"
)

// ConfigError is a configuration that cannot be used.
type ConfigError struct {
	Field   string // name as in JSON; empty when the document itself is at fault
	Message string // a sentence with the field's name, what was given and what is allowed
}

func (e *ConfigError) Error() string { return e.Message }

// allowed completes "<field> must be ..." for values of the wrong kind and out of range alike.
var allowed = map[string]string{
	"targets":               "a list of URLs such as \"http://host:port\"",
	"strategy":              "one of \"" + strings.Join(balance.Names(), "\", \"") + "\"",
	"weights":               "a list of whole numbers from 0 to 1000000, one for each target",
	"backups":               "a list of URLs such as \"http://host:port\"",
	"hash_on":               "\"key\", \"header:NAME\" or \"cookie:NAME\"",
	"retry_statuses":        "a list of statuses from 400 to 599",
	"retry_methods":         "a list of \"PUT\" and \"DELETE\"",
	"breaker_statuses":      "a list of statuses from 400 to 599",
	"retry_idempotency_key": "true or false",
	"health_url":            "a path that starts with / or an http or https URL",
	"health_expected":       "a list of ranges of statuses, [from, to] within 100 to 599",
	"health_host":           "a host, with a port or without",
	"health_headers":        "a list of [name, value]",
	"tls_ca":                "certificates in PEM",
	"tls_cert":              "certificates in PEM",
	"tls_key":               "a private key in PEM",
	"tls_server_name":       "a host name",
	"tls_min_version":       "\"1.2\" or \"1.3\"",
	"tls_insecure":          "true or false",
}

// numbers are the fields that hold whole numbers, in the order in which they are checked.
var numbers = []struct {
	field     string
	unit      string
	low, high int64
	value     func(*Config) int64
}{
	{"timeout_ms", " of milliseconds", 1, maxMilliseconds, func(c *Config) int64 { return c.TimeoutMS }},
	{"max_retries", "", 0, 10, func(c *Config) int64 { return int64(c.MaxRetries) }},
	{"max_failures", "", 1, math.MaxInt32, func(c *Config) int64 { return int64(c.MaxFailures) }},
	{"recovery_timeout_ms", " of milliseconds", 1, maxMilliseconds, func(c *Config) int64 { return c.RecoveryTimeoutMS }},
	{"connect_timeout_ms", " of milliseconds", 1, maxMilliseconds, func(c *Config) int64 { return c.ConnectTimeoutMS }},
	{"pool_timeout_ms", " of milliseconds", 0, maxMilliseconds, func(c *Config) int64 { return c.PoolTimeoutMS }},
	{"first_byte_timeout_ms", " of milliseconds", 0, maxMilliseconds, func(c *Config) int64 { return c.FirstByteTimeoutMS }},
	{"idle_timeout_ms", " of milliseconds", 0, maxMilliseconds, func(c *Config) int64 { return c.IdleTimeoutMS }},
	{"total_timeout_ms", " of milliseconds", 0, maxMilliseconds, func(c *Config) int64 { return c.TotalTimeoutMS }},
	{"max_connections", "", 1, 100_000, func(c *Config) int64 { return int64(c.MaxConnections) }},
	{"max_idle_connections", "", 0, 100_000, func(c *Config) int64 { return int64(c.MaxIdleConnections) }},
	{"keepalive_expiry_ms", " of milliseconds", 1, maxMilliseconds, func(c *Config) int64 { return c.KeepaliveExpiryMS }},
	{"max_waiting", "", 0, 1_000_000, func(c *Config) int64 { return int64(c.MaxWaiting) }},
	{"max_response_head", " of bytes", 1 << 10, 16 << 20, func(c *Config) int64 { return int64(c.MaxResponseHead) }},
	{"max_response_fields", "", 1, 100_000, func(c *Config) int64 { return int64(c.MaxResponseFields) }},
	{"max_request_body", " of bytes", 0, maxBody, func(c *Config) int64 { return c.MaxRequestBody }},
	{"max_response_body", " of bytes", 0, maxBody, func(c *Config) int64 { return c.MaxResponseBody }},
	{"slow_start_ms", " of milliseconds", 0, maxMilliseconds, func(c *Config) int64 { return c.SlowStartMS }},
	{"wait_for_healthy_ms", " of milliseconds", 0, maxMilliseconds, func(c *Config) int64 { return c.WaitForHealthyMS }},
	{"max_in_flight", "", 0, 1_000_000, func(c *Config) int64 { return int64(c.MaxInFlight) }},
	{"retry_max_body", " of bytes", 0, maxBody, func(c *Config) int64 { return c.RetryMaxBody }},
	{"retry_base_delay_ms", " of milliseconds", 0, 60_000, func(c *Config) int64 { return c.RetryBaseDelayMS }},
	{"retry_max_delay_ms", " of milliseconds", 0, 60_000, func(c *Config) int64 { return c.RetryMaxDelayMS }},
	{"retry_max_after_ms", " of milliseconds", 0, maxMilliseconds, func(c *Config) int64 { return c.RetryMaxAfterMS }},
	{"retry_budget_min", "", 0, 1_000_000, func(c *Config) int64 { return int64(c.RetryBudgetMin) }},
	{"try_timeout_ms", " of milliseconds", 0, maxMilliseconds, func(c *Config) int64 { return c.TryTimeoutMS }},
	{"breaker_window_ms", " of milliseconds", 10, maxMilliseconds, func(c *Config) int64 { return c.BreakerWindowMS }},
	{"breaker_min_samples", "", 1, 1_000_000, func(c *Config) int64 { return int64(c.BreakerMinSamples) }},
	{"breaker_probes", "", 1, 1_000, func(c *Config) int64 { return int64(c.BreakerProbes) }},
	{"breaker_max_open_ms", " of milliseconds", 0, maxMilliseconds, func(c *Config) int64 { return c.BreakerMaxOpenMS }},
	{"health_interval_ms", " of milliseconds", 1, maxMilliseconds, func(c *Config) int64 { return c.HealthIntervalMS }},
	{"health_timeout_ms", " of milliseconds", 1, maxMilliseconds, func(c *Config) int64 { return c.HealthTimeoutMS }},
	{"health_rise", "", 1, 1_000, func(c *Config) int64 { return int64(c.HealthRise) }},
	{"health_fall", "", 1, 1_000, func(c *Config) int64 { return int64(c.HealthFall) }},
}

// shares are the fields that hold a part of a whole.
var shares = []struct {
	field string
	high  float64
	value func(*Config) float64
}{
	{"panic_threshold", 1, func(c *Config) float64 { return c.PanicThreshold }},
	{"retry_budget", 1, func(c *Config) float64 { return c.RetryBudget }},
	{"breaker_ratio", 1, func(c *Config) float64 { return c.BreakerRatio }},
	{"breaker_max_ejected", 1, func(c *Config) float64 { return c.BreakerMaxEjected }},
	{"health_jitter", 0.5, func(c *Config) float64 { return c.HealthJitter }},
}

// maxBody is the largest whole number that every JSON reader keeps exactly.
const maxBody = 1<<53 - 1

func init() {
	for _, n := range numbers {
		allowed[n.field] = fmt.Sprintf("a whole number%s from %d to %d", n.unit, n.low, n.high)
	}
	for _, s := range shares {
		allowed[s.field] = fmt.Sprintf("a number from 0 to %g", s.high)
	}
}

func mustBe(field, given string) *ConfigError {
	return &ConfigError{Field: field, Message: fmt.Sprintf("%s must be %s, not %s", field, allowed[field], given)}
}

// Validate checks every field. The error is a *ConfigError that names the first field at fault.
func (c *Config) Validate() error {
	for _, n := range numbers {
		if value := n.value(c); value < n.low || value > n.high {
			return mustBe(n.field, strconv.FormatInt(value, 10))
		}
	}
	for _, s := range shares {
		if value := s.value(c); !(value >= 0 && value <= s.high) { // not the other way round: NaN
			return mustBe(s.field, strconv.FormatFloat(value, 'g', -1, 64))
		}
	}
	if !slices.Contains(balance.Names(), c.Strategy) {
		return mustBe("strategy", quote(c.Strategy))
	}
	if _, _, err := c.upstreams(); err != nil {
		return err
	}
	for _, check := range []func() error{c.checkBalance, c.checkRetries, c.checkHealth} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// upstreams parses Targets and then Backups, which must all be different, and the options of TLS for them.
func (c *Config) upstreams() ([]Target, *tls.Config, error) {
	if len(c.Targets) == 0 {
		return nil, nil, &ConfigError{Field: "targets", Message: "targets must hold at least one URL, it is empty"}
	}
	seen := make(map[string]string, len(c.Targets)+len(c.Backups))
	targets, err := parseTargets("targets", c.Targets, seen)
	if err != nil {
		return nil, nil, err
	}
	backups, err := parseTargets("backups", c.Backups, seen)
	if err != nil {
		return nil, nil, err
	}
	base, err := c.tlsBase()
	if err != nil {
		return nil, nil, err
	}
	targets = append(targets, backups...)
	for _, target := range targets {
		if err := c.checkTLS(target); err != nil {
			return nil, nil, err
		}
	}
	return targets, base, nil
}

// weighing are the strategies that read weights.
var weighing = []string{"weighted", "least_request", "consistent_hash"}

func (c *Config) checkBalance() error {
	if len(c.Weights) > 0 {
		if len(c.Weights) != len(c.Targets) {
			return mustBe("weights", fmt.Sprintf("%d of them for %d targets", len(c.Weights), len(c.Targets)))
		}
		sum := 0
		for _, weight := range c.Weights {
			if weight < 0 || weight > maxWeight {
				return mustBe("weights", strconv.Itoa(weight))
			}
			sum += weight
		}
		if sum == 0 || sum > maxWeights {
			return mustBe("weights", fmt.Sprintf("a list with the sum %d; 1 to %d is possible", sum, maxWeights))
		}
		if !slices.Contains(weighing, c.Strategy) {
			return notWeighing("weights", c.Strategy)
		}
	}
	if c.HashOn != "" {
		kind, name, _ := strings.Cut(c.HashOn, ":")
		if c.HashOn != "key" && ((kind != "header" && kind != "cookie") || !h1.ValidName(name)) {
			return mustBe("hash_on", quote(c.HashOn))
		}
		if c.Strategy != "consistent_hash" {
			return notWith("hash_on", "the strategy consistent_hash", c.Strategy)
		}
	}
	if c.SlowStartMS > 0 && (c.Strategy == "first" || c.Strategy == "single") {
		return notWith("slow_start_ms", "strategies that share requests out", c.Strategy)
	}
	return nil
}

func notWeighing(field, strategy string) *ConfigError {
	return notWith(field, "the strategies "+strings.Join(weighing, ", "), strategy)
}

func notWith(field, with, strategy string) *ConfigError {
	return &ConfigError{Field: field, Message: fmt.Sprintf("%s is for %s, the strategy is %s", field, with, strategy)}
}

func (c *Config) checkRetries() error {
	for _, list := range []struct {
		field    string
		statuses []int
	}{{"retry_statuses", c.RetryStatuses}, {"breaker_statuses", c.BreakerStatuses}} {
		for _, status := range list.statuses {
			if status < 400 || status > 599 {
				return mustBe(list.field, strconv.Itoa(status))
			}
		}
	}
	for _, method := range c.RetryMethods {
		if method != "PUT" && method != "DELETE" {
			return mustBe("retry_methods", quote(method)+"; a request with an Idempotency-Key may be retried by retry_idempotency_key")
		}
	}
	if c.RetryMaxDelayMS < c.RetryBaseDelayMS {
		return &ConfigError{
			Field:   "retry_max_delay_ms",
			Message: fmt.Sprintf("retry_max_delay_ms must be at least retry_base_delay_ms, %d ms, not %d ms", c.RetryBaseDelayMS, c.RetryMaxDelayMS),
		}
	}
	if limit := c.Timeout().Milliseconds(); c.TryTimeoutMS > limit {
		return &ConfigError{
			Field:   "try_timeout_ms",
			Message: fmt.Sprintf("try_timeout_ms must be at most the timeout of the whole call, %d, not %d", limit, c.TryTimeoutMS),
		}
	}
	return nil
}

func (c *Config) checkHealth() error {
	if c.HealthTimeoutMS >= c.HealthIntervalMS {
		return &ConfigError{
			Field:   "health_timeout_ms",
			Message: fmt.Sprintf("health_timeout_ms must be less than health_interval_ms, %d ms, not %d ms", c.HealthIntervalMS, c.HealthTimeoutMS),
		}
	}
	for _, span := range c.HealthExpected {
		if len(span) != 2 || span[0] < 100 || span[0] > span[1] || span[1] > 599 {
			return mustBe("health_expected", fmt.Sprint(span))
		}
	}
	_, err := c.health()
	return err
}

// quote shows a given text in an error message: printable ASCII only, and not without end.
func quote(text string) string {
	const limit = 120
	if len(text) > limit {
		return fmt.Sprintf("%+q (cut, %d bytes)", text[:limit], len(text))
	}
	return fmt.Sprintf("%+q", text)
}
