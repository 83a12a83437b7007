package core

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mailru/easyjson"
	"github.com/mailru/easyjson/jlexer"
)

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

	// Strategy chooses among several targets: "round_robin", "random", "weighted" or "single", spelled exactly
	// so. Empty is refused. Default "round_robin". With one target all of them are the same.
	Strategy string `json:"strategy"`

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

// strategies are the known names of Config.Strategy.
var strategies = []string{"round_robin", "random", "weighted", "single"}

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

// ConfigError is a configuration that cannot be used.
type ConfigError struct {
	Field   string // name as in JSON; empty when the document itself is at fault
	Message string // a sentence with the field's name, what was given and what is allowed
}

func (e *ConfigError) Error() string { return e.Message }

// allowed completes "<field> must be ..." for values of the wrong kind and out of range alike.
var allowed = map[string]string{
	"targets":         "a list of URLs such as \"http://host:port\"",
	"strategy":        "one of \"" + strings.Join(strategies, "\", \"") + "\"",
	"tls_ca":          "certificates in PEM",
	"tls_cert":        "certificates in PEM",
	"tls_key":         "a private key in PEM",
	"tls_server_name": "a host name",
	"tls_min_version": "\"1.2\" or \"1.3\"",
	"tls_insecure":    "true or false",
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
}

// maxBody is the largest whole number that every JSON reader keeps exactly.
const maxBody = 1<<53 - 1

func init() {
	for _, n := range numbers {
		allowed[n.field] = fmt.Sprintf("a whole number%s from %d to %d", n.unit, n.low, n.high)
	}
}

func mustBe(field, given string) *ConfigError {
	return &ConfigError{Field: field, Message: fmt.Sprintf("%s must be %s, not %s", field, allowed[field], given)}
}

// ParseConfig reads a configuration from one JSON object and validates it. Keys that are absent or null take their
// default. An unknown or repeated key, a value of another kind, a fraction, and anything after the object are
// refused. The error is a *ConfigError.
func ParseConfig(data []byte) (Config, error) {
	// The lexer alone is lenient: it takes a trailing comma, invalid UTF-8 and unbalanced brackets in skipped parts.
	if !utf8.Valid(data) || !json.Valid(data) {
		return Config{}, &ConfigError{Message: "the configuration is not a JSON document"}
	}
	members, err := scanMembers(data)
	if err != nil {
		return Config{}, err
	}
	config := DefaultConfig()
	if err := easyjson.Unmarshal(data, &config); err != nil {
		return Config{}, decodeError(err, members)
	}
	if err := config.Validate(); err != nil {
		return Config{}, err
	}
	return config, nil
}

// Validate checks every field. The error is a *ConfigError that names the first field at fault.
func (c *Config) Validate() error {
	for _, n := range numbers {
		if value := n.value(c); value < n.low || value > n.high {
			return mustBe(n.field, strconv.FormatInt(value, 10))
		}
	}
	if !slices.Contains(strategies, c.Strategy) {
		return mustBe("strategy", quote(c.Strategy))
	}
	targets, err := ParseTargets(c.Targets)
	if err != nil {
		return err
	}
	for _, target := range targets {
		if _, err := c.tlsFor(target); err != nil {
			return err
		}
	}
	return nil
}

// member is one key of the JSON object: where its value starts, and of which kind it is.
type member struct {
	key   string
	start int
	kind  string
}

// scanMembers lists the keys of the object in data, which is valid JSON, and refuses repeated ones: the decoder
// would silently let the last one win.
func scanMembers(data []byte) ([]member, error) {
	in := jlexer.Lexer{Data: data}
	if !in.IsDelim('{') {
		return nil, &ConfigError{Message: "the configuration must be a JSON object, not " + kindOf(data)}
	}
	var members []member
	in.Delim('{')
	for !in.IsDelim('}') && in.Ok() {
		key := in.String()
		in.WantColon()
		start := in.GetPos()
		value := in.Raw()
		in.WantComma()
		if slices.ContainsFunc(members, func(m member) bool { return m.key == key }) {
			return nil, &ConfigError{Field: key, Message: fmt.Sprintf("%s is given more than once", key)}
		}
		members = append(members, member{key, start, kindOf(value)})
	}
	return members, nil
}

// decodeError turns an error of the generated decoder into one that names the field.
func decodeError(err error, members []member) error {
	var lexed *jlexer.LexerError
	if !errors.As(err, &lexed) {
		return &ConfigError{Message: "the configuration cannot be read: " + err.Error()}
	}
	if lexed.Reason == "unknown field" {
		return &ConfigError{Field: lexed.Data, Message: "unknown option " + quote(lexed.Data)}
	}
	for _, m := range slices.Backward(members) {
		if m.start <= lexed.Offset {
			if m.key == "targets" && m.kind == "a list" {
				m.kind = "a list with other elements than strings"
			}
			return mustBe(m.key, m.kind)
		}
	}
	return &ConfigError{Message: "the configuration cannot be read: " + lexed.Reason}
}

// kindOf names the kind of a JSON value by its first byte.
func kindOf(value []byte) string {
	value = []byte(strings.TrimSpace(string(value)))
	switch value[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "a list"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "the number " + string(value)
}

// quote shows a given text in an error message: printable ASCII only, and not without end.
func quote(text string) string {
	const limit = 120
	if len(text) > limit {
		return fmt.Sprintf("%+q (cut, %d bytes)", text[:limit], len(text))
	}
	return fmt.Sprintf("%+q", text)
}
