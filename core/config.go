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
	}
}

// Timeout is TimeoutMS as a duration.
func (c *Config) Timeout() time.Duration { return time.Duration(c.TimeoutMS) * time.Millisecond }

// RecoveryTimeout is RecoveryTimeoutMS as a duration.
func (c *Config) RecoveryTimeout() time.Duration {
	return time.Duration(c.RecoveryTimeoutMS) * time.Millisecond
}

// ConfigError is a configuration that cannot be used.
type ConfigError struct {
	Field   string // name as in JSON; empty when the document itself is at fault
	Message string // a sentence with the field's name, what was given and what is allowed
}

func (e *ConfigError) Error() string { return e.Message }

// allowed completes "<field> must be ..." for values of the wrong kind and out of range alike.
var allowed = map[string]string{
	"targets":             "a list of URLs such as \"http://host:port\"",
	"timeout_ms":          "a whole number of milliseconds from 1 to 86400000",
	"max_retries":         "a whole number from 0 to 10",
	"max_failures":        "a whole number from 1 to 2147483647",
	"recovery_timeout_ms": "a whole number of milliseconds from 1 to 86400000",
	"strategy":            "one of \"" + strings.Join(strategies, "\", \"") + "\"",
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
	if err := checkRange("timeout_ms", c.TimeoutMS, 1, maxMilliseconds); err != nil {
		return err
	}
	if err := checkRange("max_retries", int64(c.MaxRetries), 0, 10); err != nil {
		return err
	}
	if err := checkRange("max_failures", int64(c.MaxFailures), 1, math.MaxInt32); err != nil {
		return err
	}
	if err := checkRange("recovery_timeout_ms", c.RecoveryTimeoutMS, 1, maxMilliseconds); err != nil {
		return err
	}
	if !slices.Contains(strategies, c.Strategy) {
		return mustBe("strategy", quote(c.Strategy))
	}
	_, err := ParseTargets(c.Targets)
	return err
}

func checkRange(field string, value, low, high int64) error {
	if value < low || value > high {
		return mustBe(field, strconv.FormatInt(value, 10))
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
