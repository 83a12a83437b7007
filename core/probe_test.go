package core

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// quick makes probes come often.
func quick(c *Config) {
	c.HealthURL, c.HealthIntervalMS, c.HealthTimeoutMS, c.HealthRise, c.HealthFall = "/health", 30, 25, 2, 2
}

// rare makes them come at the start only.
func rare(c *Config) { c.HealthURL = "/health" }

func usable(pool *Pool) (all []bool) {
	for _, target := range pool.Snapshot().Targets {
		all = append(all, target.Usable)
	}
	return all
}

func TestProbesTakeAnUpstreamOutAndBringItBack(t *testing.T) {
	u := fakes(t, 2)
	pool := poolOf(t, u, quick)
	eventually(t, func() bool { return u[0].requests.Load() > 2 && u[1].requests.Load() > 2 })
	require.Equal(t, []bool{true, true}, usable(pool))
	u[0].status(500)
	eventually(t, func() bool { return !usable(pool)[0] })
	for range 10 {
		response, err := get(pool)
		require.Nil(t, err)
		require.Equal(t, u[1].address, string(response.Body))
	}
	u[0].status(200)
	eventually(t, func() bool { return usable(pool)[0] })
	changes, last, err := pool.Changes(context.Background(), 0)
	require.NoError(t, err)
	require.EqualValues(t, 2, last)
	assert.Equal(t, []string{"healthy", "unhealthy", "healthy"}, []string{changes[0].Before, changes[0].After, changes[1].After})
	assert.Equal(t, "a probe was answered with status 500", changes[0].Reason)
	assert.Equal(t, u[0].url(), changes[0].Target)
}

func TestAProbeOnDemandIsAVerdict(t *testing.T) {
	u := fakes(t, 3)
	pool := poolOf(t, u, rare)
	require.NoError(t, pool.Probe(context.Background()))
	require.Equal(t, []bool{true, true, true}, usable(pool))
	u[0].down()
	u[1].status(404)
	require.NoError(t, pool.Probe(context.Background()))
	require.Equal(t, []bool{false, false, true}, usable(pool))
	u[0].up()
	u[1].status(302)
	require.NoError(t, pool.Probe(context.Background()))
	require.Equal(t, []bool{true, true, true}, usable(pool))
}

func TestProbingNeedsSomethingToAskFor(t *testing.T) {
	var failure *Error
	require.ErrorAs(t, poolOf(t, fakes(t, 1)).Probe(context.Background()), &failure)
	assert.Equal(t, CodeConfiguration, failure.Code)
	pool := poolOf(t, fakes(t, 1), rare)
	pool.Close()
	require.ErrorAs(t, pool.Probe(context.Background()), &failure)
	assert.Equal(t, CodeClientClosed, failure.Code)
}

func TestWhatAProbeAsks(t *testing.T) {
	u := fakes(t, 1)
	var asked atomic.Pointer[http.Request]
	u[0].does(func(conn net.Conn, request *http.Request) bool {
		asked.Store(request)
		_, _ = io.WriteString(conn, "HTTP/1.1 418 X\r\nContent-Length: 0\r\n\r\n")
		return true
	})
	pool := poolOf(t, u, func(c *Config) {
		c.HealthURL, c.HealthHost = "/ready?deep=1", "status.example"
		c.HealthHeaders, c.HealthExpected = [][]string{{"X-Probe", "yes"}}, [][]int{{200, 204}, {418, 418}}
	})
	require.NoError(t, pool.Probe(context.Background()))
	require.Equal(t, []bool{true}, usable(pool))
	request := asked.Load()
	assert.Equal(t, "GET /ready?deep=1", request.Method+" "+request.RequestURI)
	assert.Equal(t, "status.example", request.Host)
	assert.Equal(t, "yes", request.Header.Get("X-Probe"))
	assert.True(t, request.Close)
	assert.Zero(t, pool.Snapshot().Connections, "a probe uses none of the pool's")
}

func TestAProbeOfAWholeURL(t *testing.T) {
	u := fakes(t, 2)
	pool := poolOf(t, u[:1], func(c *Config) { c.HealthURL = u[1].url() + "/status" })
	require.NoError(t, pool.Probe(context.Background()))
	assert.Positive(t, u[1].requests.Load())
	assert.Zero(t, u[0].requests.Load())
}

func TestAProbeThatTakesTooLongHasFailed(t *testing.T) {
	u := fakes(t, 1)
	release := make(chan struct{})
	defer close(release)
	u[0].holds(release)
	pool := poolOf(t, u, func(c *Config) { c.HealthURL, c.HealthTimeoutMS = "/health", 50 })
	start := time.Now()
	require.NoError(t, pool.Probe(context.Background()))
	assert.Less(t, time.Since(start), 2*time.Second)
	assert.Equal(t, []bool{false}, usable(pool))
	assert.Equal(t, "a probe was not answered within 50ms", pool.Snapshot().Targets[0].Probe)
}

func TestAGoodProbeEndsAnEjection(t *testing.T) {
	u := fakes(t, 1)
	pool := poolOf(t, u, rare, func(c *Config) { c.MaxFailures, c.MaxRetries = 1, 0 })
	u[0].status(503)
	_, _ = get(pool)
	require.Equal(t, []string{"open"}, states(pool))
	u[0].status(200)
	require.NoError(t, pool.Probe(context.Background()))
	require.Equal(t, []string{"closed"}, states(pool))
	_, err := get(pool)
	require.Nil(t, err)
}

// A probe that set out before the breaker opened does not know why it did.
func TestAProbeDoesNotEndAnEjectionThatCameAfterIt(t *testing.T) {
	u := fakes(t, 1)
	arrived, release := make(chan struct{}, 9), make(chan struct{})
	u[0].does(func(conn net.Conn, request *http.Request) bool {
		if request.URL.Path == "/health" {
			arrived <- struct{}{}
			<-release
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			return true
		}
		return false
	})
	pool := poolOf(t, u, rare, func(c *Config) { c.MaxFailures, c.MaxRetries = 1, 0 })
	<-arrived
	_, _ = get(pool)
	require.Equal(t, []string{"open"}, states(pool))
	close(release)
	eventually(t, func() bool { return pool.Snapshot().Targets[0].Probe != "" })
	assert.Equal(t, []string{"open"}, states(pool))
}

func TestTargetsThatComeLaterAreProbedToo(t *testing.T) {
	u := fakes(t, 2)
	pool := poolOf(t, u[:1], quick)
	u[1].status(500)
	_, err := pool.AddTarget(u[1].url(), 1, false, 5)
	require.NoError(t, err)
	eventually(t, func() bool { return !usable(pool)[1] })
	require.NoError(t, pool.RemoveTarget(u[1].url()))
	asked := u[1].requests.Load()
	time.Sleep(100 * time.Millisecond)
	assert.LessOrEqual(t, u[1].requests.Load(), asked+1)
	assert.Equal(t, []bool{true}, usable(pool))
}
