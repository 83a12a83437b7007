package core

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestTheKeyOfAHashIsTheFirstOfItsName(t *testing.T) {
	none := "none"
	tests := map[string]struct {
		on     string
		fields Fields
		key    string
	}{
		"header":                        {"header:X-User", lines("X-User", "a"), "a"},
		"header in another case":        {"header:X-User", lines("x-uSER", "a"), "a"},
		"header after others":           {"header:x-user", lines("X-Use", "1", "X-User2", "2", "X-User", "a"), "a"},
		"header twice":                  {"header:X-User", lines("X-User", "a", "X-User", "b"), "a"},
		"empty header":                  {"header:X-User", lines("X-User", ""), ""},
		"no header":                     {"header:X-User", lines("Cookie", "X-User=a"), none},
		"header named Cookie":           {"header:Cookie", lines("Cookie", "sid=a; b=c"), "sid=a; b=c"},
		"cookie":                        {"cookie:sid", lines("Cookie", "sid=a"), "a"},
		"field in another case":         {"cookie:sid", lines("cOOKIE", "sid=a"), "a"},
		"cookie after others":           {"cookie:sid", lines("Cookie", "a=b; sidx=c; xsid=d; sid=e"), "e"},
		"cookie in a later line":        {"cookie:sid", lines("Cookie", "a=b", "X", "y", "Cookie", "sid=c"), "c"},
		"cookie twice":                  {"cookie:sid", lines("Cookie", "sid=a; sid=b"), "a"},
		"cookie between blanks":         {"cookie:sid", lines("Cookie", "a=b;\tsid=c \t;d=e"), "c"},
		"cookie that holds =":           {"cookie:sid", lines("Cookie", "sid=a=b="), "a=b="},
		"empty cookie":                  {"cookie:sid", lines("Cookie", "sid=; sid=b"), ""},
		"cookie in another case":        {"cookie:sid", lines("Cookie", "SID=a"), none},
		"cookie without =":              {"cookie:sid", lines("Cookie", "sid; sid=b"), "b"},
		"no cookie":                     {"cookie:sid", lines("Cookie", "a=sid; b"), none},
		"field that only looks like it": {"cookie:sid", lines("Set-Cookie", "sid=a", "Cookies", "sid=b", "X-Sid", "sid=c"), none},
		"no fields, header":             {"header:X-User", nil, none},
		"no fields, cookie":             {"cookie:sid", nil, none},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			key := hashField(test.fields, test.on)
			if test.key == none {
				assert.Nil(t, key)
				return
			}
			assert.NotNil(t, key)
			assert.Equal(t, test.key, string(key))
		})
	}
}

func TestTheLongestRetryAfterIs31Bits(t *testing.T) {
	after, found := retryAfter(lines("Retry-After", "2147483647"))
	assert.True(t, found)
	assert.Equal(t, 2147483647*time.Second, after)
	_, found = retryAfter(lines("Retry-After", "2147483648"))
	assert.False(t, found)
	_, found = retryAfter(lines("Date", "1"))
	assert.False(t, found)
	for _, at := range []time.Time{time.Now().Add(-time.Hour), time.Unix(0, 0)} {
		after, found = retryAfter(lines("Retry-After", at.UTC().Format(http.TimeFormat)))
		assert.True(t, found)
		assert.Zero(t, after, "a date that is over asks for no wait")
	}
}

// The options of the ratio mean nothing without one: a breaker that counts in a row keeps no window.
func TestABreakerHasAWindowOnlyForARatio(t *testing.T) {
	config := DefaultConfig()
	config.BreakerRatio, config.BreakerWindowMS, config.BreakerMinSamples = 0, 10_000, 20
	settings := config.breakerSettings()
	assert.Zero(t, settings.Ratio)
	assert.Zero(t, settings.Window)
	assert.Zero(t, settings.MinSamples)
	config.BreakerRatio = 0.5
	settings = config.breakerSettings()
	assert.InDelta(t, 0.5, settings.Ratio, 0)
	assert.Equal(t, 10*time.Second, settings.Window)
	assert.Equal(t, 20, settings.MinSamples)
}
