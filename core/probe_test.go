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

	"github.com/velithon/velithon-proxy/core/h1"
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

// A probe frames and addresses itself; what else it carries is the caller's.
func TestTheFieldsThatAProbeMaySet(t *testing.T) {
	tests := map[string]struct {
		headers [][]string
		refused string // or none
	}{
		"none":              {nil, ""},
		"several":           {[][]string{{"X-A", "1"}, {"X-A", "2"}, {"Accept", ""}}, ""},
		"longer names":      {[][]string{{"X-Host", "1"}, {"Connections", "2"}}, ""},
		"Host":              {[][]string{{"X-A", "1"}, {"hOST", "a"}}, "hOST is not one"},
		"Content-Length":    {[][]string{{"Content-Length", "0"}}, "Content-Length is not one"},
		"Transfer-Encoding": {[][]string{{"transfer-encoding", "chunked"}}, "transfer-encoding is not one"},
		"Connection":        {[][]string{{"Connection", "keep-alive"}}, "Connection is not one"},
		"no value":          {[][]string{{"X-A"}}, "[\"X-A\"]"},
		"two values":        {[][]string{{"X-A", "1", "2"}}, "[\"X-A\" \"1\" \"2\"]"},
		"nothing":           {[][]string{{}}, "[]"},
		"no name":           {[][]string{{"", "1"}}, "is not a token"},
		"a second line":     {[][]string{{"X-A", "1\r\nX-B: 2"}}, "CR, LF"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			config := DefaultConfig()
			config.HealthURL, config.HealthHost, config.HealthHeaders = "/ready", "status.example:81", test.headers
			plan, err := config.health()
			if test.refused != "" {
				var refusal *ConfigError
				require.ErrorAs(t, err, &refusal)
				assert.Equal(t, "health_headers", refusal.Field)
				assert.Contains(t, refusal.Message, test.refused)
				return
			}
			require.NoError(t, err)
			want := lines("Host", "status.example:81")
			for _, header := range test.headers {
				want = h1.AppendField(want, header[0], header[1])
			}
			assert.Equal(t, h1.AppendField(want, "Connection", "close"), plan.request.Fields)
		})
	}
}

func TestTheHostAndTheURLOfAProbe(t *testing.T) {
	tests := map[string]struct {
		host, url string
		target    string // "": each upstream itself
		path      string
		refused   string // the field, or none
	}{
		"nothing":                {"", "", "", "/", ""},
		"a path":                 {"", "/ready?a=http://b/c", "", "/ready?a=http://b/c", ""},
		"a URL":                  {"", "http://other:81/ready/now?x", "other:81", "/ready/now?x", ""},
		"a URL without a path":   {"", "http://other:81", "other:81", "/", ""},
		"a host":                 {"status.example", "/", "", "/", ""},
		"a host with a path":     {"status.example/a", "/", "", "", "health_host"},
		"a host with a slash":    {"status.example/", "/", "", "", "health_host"},
		"a host with a blank":    {"a b", "/", "", "", "health_host"},
		"a URL without a scheme": {"", "other:81/ready", "", "", "health_url"},
		"a URL without a host":   {"", "http:///ready", "", "", "health_url"},
		"another scheme":         {"", "ftp://other/ready", "", "", "health_url"},
		"a path with a blank":    {"", "/a b", "", "", "health_url"},
		"a URL with a blank":     {"", "http://other/a b", "", "", "health_url"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			config := DefaultConfig()
			config.HealthHost, config.HealthURL = test.host, test.url
			plan, err := config.health()
			if test.refused != "" {
				var refusal *ConfigError
				require.ErrorAs(t, err, &refusal)
				assert.Equal(t, test.refused, refusal.Field)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.path, plan.request.Target)
			if test.target == "" {
				assert.Nil(t, plan.target)
			} else {
				assert.Equal(t, test.target, plan.target.Host)
			}
			host, found := plan.request.Fields.Get("host")
			assert.Equal(t, test.host, string(host))
			assert.Equal(t, test.host != "", found)
		})
	}
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
