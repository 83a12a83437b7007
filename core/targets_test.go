package core

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func hits(upstreams []*fakeUpstream) (counts []int32) {
	for _, u := range upstreams {
		counts = append(counts, u.requests.Load())
	}
	return counts
}

func TestTargetsComeAndGo(t *testing.T) {
	u := fakes(t, 3)
	pool := poolOf(t, u[:1])
	for i, want := range []int{1, 2} {
		number, err := pool.AddTarget(u[i+1].url(), 1, false, -1)
		require.NoError(t, err)
		require.Equal(t, want, number)
	}
	for range 30 {
		_, err := get(pool)
		require.Nil(t, err)
	}
	require.Equal(t, []int32{10, 10, 10}, hits(u))
	require.NoError(t, pool.RemoveTarget(u[1].url()+"/")) // another spelling
	require.NoError(t, pool.Drain(u[0].url(), true))
	for range 10 {
		response, err := get(pool)
		require.Nil(t, err)
		require.Equal(t, u[2].address, string(response.Body))
	}
	require.NoError(t, pool.Drain(u[0].url(), false))
	require.NoError(t, pool.Drain(u[2].url(), true))
	response, err := get(pool)
	require.Nil(t, err)
	require.Equal(t, u[0].address, string(response.Body))
	require.NoError(t, pool.Drain(u[0].url(), true))
	_, err = get(pool)
	require.Equal(t, CodeNoHealthyTarget, err.Code)

	number, failure := pool.AddTarget(u[1].url(), 1, false, 7)
	require.NoError(t, failure)
	require.Equal(t, 7, number, "no number is used again, and a caller may choose")
	response, err = get(pool)
	require.Nil(t, err)
	require.Equal(t, u[1].address, string(response.Body))
}

func TestWrongChangesAreRefusedAndChangeNothing(t *testing.T) {
	u := fakes(t, 2)
	pool := poolOf(t, u, func(c *Config) { c.Strategy = "weighted" })
	before := pool.Snapshot()
	for _, change := range []func() error{
		func() error { _, err := pool.AddTarget(u[0].url(), 1, false, -1); return err },
		func() error { _, err := pool.AddTarget("ftp://a", 1, false, -1); return err },
		func() error { _, err := pool.AddTarget("http://a", -1, false, -1); return err },
		func() error { _, err := pool.AddTarget("http://a", 1_000_001, false, -1); return err },
		func() error { _, err := pool.AddTarget("http://a", 1, false, 1); return err },
		func() error { return pool.RemoveTarget("http://a") },
		func() error { return pool.RemoveTarget("") },
		func() error { return pool.SetWeight("http://a", 1) },
		func() error { return pool.SetWeight(u[0].url(), -1) },
		func() error { return pool.Drain("http://a", true) },
		func() error { return pool.ResetBreakers("http://a") },
	} {
		var refused *ConfigError
		require.ErrorAs(t, change(), &refused)
		require.NotEmpty(t, refused.Message)
	}
	require.NoError(t, pool.SetWeight(u[0].url(), 0))
	require.Error(t, pool.SetWeight(u[1].url(), 0), "one must get something")
	require.NoError(t, pool.SetWeight(u[0].url(), 1))
	require.Equal(t, before, pool.Snapshot())
	require.NoError(t, pool.RemoveTarget(u[0].url()))
	require.Error(t, pool.RemoveTarget(u[1].url()), "the last one stays")
	round := poolOf(t, u)
	require.Error(t, round.SetWeight(u[0].url(), 2), "round_robin knows no weights")
}

func TestWeightsAreExactAndChange(t *testing.T) {
	u := fakes(t, 3)
	pool := poolOf(t, u, func(c *Config) { c.Strategy, c.Weights = "weighted", []int{50, 30, 20} })
	for range 100 {
		_, err := get(pool)
		require.Nil(t, err)
	}
	require.Equal(t, []int32{50, 30, 20}, hits(u))
	require.NoError(t, pool.SetWeight(u[0].url(), 0))
	for range 100 {
		_, err := get(pool)
		require.Nil(t, err)
	}
	require.Equal(t, []int32{50, 90, 60}, hits(u))
}

func TestNextTargetIsTheTextThatWasGiven(t *testing.T) {
	u := fakes(t, 2)
	pool := poolOf(t, nil, func(c *Config) { c.Targets = []string{u[0].address, u[1].url() + "/"} })
	first, err := pool.NextTarget(nil)
	require.Nil(t, err)
	second, err := pool.NextTarget(nil)
	require.Nil(t, err)
	assert.ElementsMatch(t, []string{u[0].address, u[1].url() + "/"}, []string{first, second})
}

// Row F36: targets come and go under load; requests under way finish, and none fails.
func TestF36ChangesUnderLoad(t *testing.T) {
	u := fakes(t, 4)
	pool := poolOf(t, u[:2])
	ctx, stop := context.WithCancel(context.Background())
	var load sync.WaitGroup
	for range 8 {
		load.Go(func() {
			for ctx.Err() == nil {
				_, err := send(pool, Request{Method: "POST", Target: "/", Body: []byte("x")})
				if !assert.Nil(t, err) {
					return
				}
			}
		})
	}
	for range 60 {
		for i := 2; i < 4; i++ {
			_, err := pool.AddTarget(u[i].url(), 1, false, -1)
			require.NoError(t, err)
		}
		time.Sleep(2 * time.Millisecond)
		for i := 2; i < 4; i++ {
			require.NoError(t, pool.RemoveTarget(u[i].url()))
		}
	}
	time.Sleep(20 * time.Millisecond) // what was chosen before has arrived
	before := hits(u[2:])
	time.Sleep(20 * time.Millisecond)
	assert.Equal(t, before, hits(u[2:]))
	assert.Positive(t, before[0])
	stop()
	load.Wait()
	// The connections to what was removed are closed.
	eventually(t, func() bool {
		for _, upstream := range u[2:] {
			upstream.mu.Lock()
			open := len(upstream.conns) > 0
			upstream.mu.Unlock()
			if open {
				return false
			}
		}
		return true
	})
}

func TestARequestAtARemovedTargetFinishes(t *testing.T) {
	u := fakes(t, 2)
	release := make(chan struct{})
	u[0].holds(release)
	pool := poolOf(t, u, func(c *Config) { c.Strategy = "first" })
	done := make(chan *Error)
	go func() {
		_, err := get(pool)
		done <- err
	}()
	eventually(t, func() bool { return u[0].requests.Load() == 1 })
	require.NoError(t, pool.RemoveTarget(u[0].url()))
	close(release)
	require.Nil(t, <-done)
}

func TestTenThousandTargets(t *testing.T) {
	config := DefaultConfig()
	for i := range 10_000 {
		config.Targets = append(config.Targets, "http://127.0.0.1:"+strconv.Itoa(i+10_000))
	}
	pool, err := NewPool(config)
	require.NoError(t, err)
	defer pool.Close()
	seen := map[string]bool{}
	for range 10_000 {
		target, err := pool.NextTarget(nil)
		require.Nil(t, err)
		seen[target] = true
	}
	assert.Len(t, seen, 10_000)
}

// What waits for a connection to an upstream that is removed goes to another one.
func TestRequestsThatWaitAtARemovedTargetMoveOn(t *testing.T) {
	u := fakes(t, 2)
	release := make(chan struct{})
	u[0].holds(release)
	pool := poolOf(t, u, func(c *Config) { c.Strategy, c.MaxConnections = "first", 1 })
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			_, err := send(pool, Request{Method: "POST", Target: "/"})
			assert.Nil(t, err)
		})
	}
	eventually(t, func() bool { return pool.Snapshot().Targets[0].InFlight == 20 })
	pool.stale.Store(true)
	require.NoError(t, pool.RemoveTarget(u[0].url()))
	eventually(t, func() bool { return u[1].requests.Load() == 19 })
	close(release)
	group.Wait()
	assert.EqualValues(t, 1, u[0].requests.Load())
}
