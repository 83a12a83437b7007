package core

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// clock is the time of breakers, and moves only when it is told to.
type clock struct{ ahead atomic.Int64 }

var clockZero = time.Now()

func (c *clock) now() time.Time          { return clockZero.Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

func timedPool(t *testing.T, upstreams []*fakeUpstream, change ...func(*Config)) (*Pool, *clock) {
	config := DefaultConfig()
	config.MaxRetries = 0
	for _, u := range upstreams {
		config.Targets = append(config.Targets, u.url())
	}
	for _, c := range change {
		c(&config)
	}
	time := &clock{}
	pool, err := newPoolAt(config, time.now)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool, time
}

func TestPanicUsesAllUpstreams(t *testing.T) {
	u := fakes(t, 4)
	pool, _ := timedPool(t, u, func(c *Config) { c.MaxFailures, c.PanicThreshold = 1, 0.5 })
	for i := range 3 {
		u[i].hangsUp()
	}
	for range 12 {
		_, _ = get(pool)
	}
	require.Equal(t, []string{"open", "open", "open", "closed"}, states(pool))
	before := [4]int32{}
	for i := range u {
		before[i] = u[i].requests.Load()
		u[i].status(200)
	}
	for range 40 { // one of four can be used, which is less than half
		_, err := get(pool)
		require.Nil(t, err)
	}
	for i := range u {
		assert.Equal(t, before[i]+10, u[i].requests.Load())
	}
}

// B12: so many upstreams are kept out of use, but always one.
func TestBreakersEjectOnlySoMany(t *testing.T) {
	for share, most := range map[float64]int{0: 1, 0.4: 1, 0.5: 2, 1: 4} {
		u := fakes(t, 4)
		pool, now := timedPool(t, u, func(c *Config) { c.MaxFailures, c.BreakerMaxEjected = 1, share })
		for _, upstream := range u {
			upstream.hangsUp()
		}
		for range 60 {
			_, _ = get(pool)
			now.advance(time.Millisecond)
		}
		require.Equal(t, []string{"open", "open", "open", "open"}, states(pool))
		used := 0
		before := hits(u)
		for range 60 {
			_, _ = get(pool)
		}
		for i, after := range hits(u) {
			if after > before[i] {
				used++
			}
		}
		assert.Equal(t, 4-most, used, "share %v", share)
	}
}

func TestBackupsServeWhileNoTargetCan(t *testing.T) {
	u := fakes(t, 3)
	pool, now := timedPool(t, u[:2], func(c *Config) { c.Backups, c.MaxFailures = []string{u[2].url()}, 1 })
	for range 10 {
		_, err := get(pool)
		require.Nil(t, err)
	}
	require.Zero(t, u[2].requests.Load())
	u[0].hangsUp()
	u[1].hangsUp()
	_, _ = get(pool)
	_, _ = get(pool)
	for range 5 {
		response, err := get(pool)
		require.Nil(t, err)
		require.Equal(t, u[2].address, string(response.Body))
	}
	u[0].status(200)
	u[1].status(200)
	now.advance(time.Minute)
	for range 4 {
		response, err := get(pool)
		require.Nil(t, err)
		require.NotEqual(t, u[2].address, string(response.Body))
	}
}

func TestSlowStart(t *testing.T) {
	u := fakes(t, 2)
	pool, now := timedPool(t, u[:1], func(c *Config) { c.SlowStartMS = 60_000 })
	_, err := pool.AddTarget(u[1].url(), 1, false, -1)
	require.NoError(t, err)
	count := func() int32 {
		before := u[1].requests.Load()
		for range 110 {
			_, err := get(pool)
			require.Nil(t, err)
		}
		return u[1].requests.Load() - before
	}
	assert.EqualValues(t, 10, count(), "a tenth of the other's share")
	now.advance(30 * time.Second)
	half := count()
	assert.InDelta(t, 110.0/3, float64(half), 2)
	now.advance(31 * time.Second)
	assert.EqualValues(t, 55, count())
}

func TestConsistentHashKeysComeFromWhereTheOptionSays(t *testing.T) {
	u := fakes(t, 5)
	for on, request := range map[string]func(key string) (Request, []byte){
		"key":           func(key string) (Request, []byte) { return Request{}, []byte(key) },
		"header:X-User": func(key string) (Request, []byte) { return Request{Fields: lines("x-USER", key)}, nil },
		"cookie:sid": func(key string) (Request, []byte) {
			return Request{Fields: lines("Cookie", "a=b; sid="+key+"; c")}, nil
		},
	} {
		pool := poolOf(t, u, func(c *Config) { c.Strategy, c.HashOn = "consistent_hash", on })
		used := map[string]bool{}
		for user := range 50 {
			var target string
			for range 5 {
				request, key := request(fmt.Sprint("user ", user))
				request.Method, request.Target = "GET", "/"
				sink := &collector{done: make(chan struct{})}
				pool.Start(&Call{Request: request, Key: key, Sink: sink, ID: 1})
				<-sink.done
				require.Nil(t, sink.err)
				got := string(sink.response.Body)
				require.Contains(t, []string{"", target}, map[bool]string{true: "", false: got}[target == ""], on)
				target = got
			}
			used[target] = true
		}
		assert.Len(t, used, 5, on)
	}
}
