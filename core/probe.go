package core

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/velithon/velithon-proxy/core/h1"
	"github.com/velithon/velithon-proxy/core/health"
)

// healthPlan is how the upstreams of a pool are probed.
type healthPlan struct {
	settings health.Settings
	request  Request
	target   *Target // the one that is asked for every upstream; nil: each is asked itself
}

// health reads the options of probes. The error is a *ConfigError.
func (c *Config) health() (*healthPlan, error) {
	plan := &healthPlan{
		settings: health.Settings{
			Interval: milliseconds(c.HealthIntervalMS), Timeout: milliseconds(c.HealthTimeoutMS),
			Rise: c.HealthRise, Fall: c.HealthFall, Jitter: c.HealthJitter,
		},
		request: Request{Method: "GET", Target: "/"},
	}
	for _, span := range c.HealthExpected { // checked before
		plan.settings.Expected = append(plan.settings.Expected, health.StatusRange{From: span[0], To: span[1]})
	}
	fields := &plan.request.Fields
	if c.HealthHost != "" {
		if _, err := ParseTarget("http://" + c.HealthHost); err != nil || strings.HasSuffix(c.HealthHost, "/") {
			return nil, mustBe("health_host", quote(c.HealthHost))
		}
		*fields = h1.AppendField(*fields, "Host", c.HealthHost)
	}
	for _, header := range c.HealthHeaders {
		if len(header) != 2 {
			return nil, mustBe("health_headers", fmt.Sprintf("%+q", header))
		}
		switch strings.ToLower(header[0]) {
		case "host", "content-length", "transfer-encoding", "connection":
			return nil, &ConfigError{Field: "health_headers", Message: "health_headers: " + header[0] + " is not one that a probe may set"}
		}
		*fields = h1.AppendField(*fields, header[0], header[1])
		if err := plan.request.Check(); err != nil {
			return nil, &ConfigError{Field: "health_headers", Message: "health_headers: " + err.Error()}
		}
	}
	// Each probe makes a connection of its own: it is to find out whether one can be made.
	*fields = h1.AppendField(*fields, "Connection", "close")
	if strings.HasPrefix(c.HealthURL, "/") {
		plan.request.Target = c.HealthURL
	} else if c.HealthURL != "" {
		scheme, rest, found := strings.Cut(c.HealthURL, "://")
		authority, path, _ := strings.Cut(rest, "/")
		target, err := ParseTarget(scheme + "://" + authority)
		if !found || err != nil {
			return nil, mustBe("health_url", quote(c.HealthURL))
		}
		plan.target, plan.request.Target = &target, "/"+path
	}
	if err := plan.request.Check(); err != nil {
		return nil, mustBe("health_url", quote(c.HealthURL))
	}
	return plan, nil
}

// startProbing begins to probe, if there is something to ask for.
func (p *Pool) startProbing() error {
	if p.config.HealthURL == "" {
		return nil
	}
	plan, err := p.config.health()
	if err != nil {
		return err
	}
	p.probing = plan
	p.prober, err = health.NewProber(plan.settings, len(p.members), p.probe, p.judged)
	if err != nil {
		return err
	}
	p.prober.Start()
	return nil
}

// Probe probes all upstreams now, makes the results their verdicts, and returns when it has.
func (p *Pool) Probe(ctx context.Context) error {
	switch {
	case p.closed.Load():
		return closedError()
	case p.prober == nil:
		return &Error{Code: CodeConfiguration, Message: "there is no health_check_url to probe"}
	}
	_, err := p.prober.RunNow(ctx)
	switch {
	case errors.Is(err, health.ErrStopped):
		return closedError()
	case err != nil:
		return &Error{Code: CodeCancelled, Message: "the caller left", Err: err}
	}
	return nil
}

// judged takes a verdict of the prober.
func (p *Pool) judged(probed int, healthy bool) {
	p.mu.Lock()
	m := p.probedLocked(probed)
	if m == nil || m.healthy == healthy {
		p.mu.Unlock()
		return
	}
	m.healthy = healthy
	change := Change{
		Upstream: m.number, Target: m.target.Given, What: "health",
		Before: "healthy", After: "unhealthy", Reason: m.probeNote, At: p.now(),
	}
	if healthy {
		change.Before, change.After = change.After, change.Before
		p.welcome(m)
	}
	p.changes.add(change)
	p.chooseLocked()
	p.mu.Unlock()
}

func (p *Pool) memberLocked(number int) *member {
	i := slices.IndexFunc(p.members, func(m *member) bool { return m.number == number })
	if i < 0 {
		return nil
	}
	return p.members[i]
}

// probedLocked is the member with a number of the prober's.
func (p *Pool) probedLocked(probed int) *member {
	for _, m := range p.members {
		if m.probed == probed {
			return m
		}
	}
	return nil
}

// probe asks one upstream. It is the prober's.
func (p *Pool) probe(ctx context.Context, probed int) health.Result {
	p.mu.Lock()
	m := p.probedLocked(probed)
	if m == nil {
		p.mu.Unlock()
		return health.Result{Err: errors.New("the upstream was removed")}
	}
	if m.probes == nil {
		m.probes = h1.NewTransport(p.probeOptions(m))
	}
	transport := m.probes
	p.mu.Unlock()

	generation := m.breaker.Generation()
	status, err := p.ask(ctx, transport)
	result := health.Result{Status: status}
	note := ""
	switch {
	case err != nil:
		result.Err, note = err, err.Error()
	case p.probing.settings.Expects(status):
		result.OK, note = true, fmt.Sprintf("a probe was answered with status %d", status)
		// A good probe ends an ejection, as Envoy has it.
		m.breaker.Recover(generation, note)
	default:
		note = fmt.Sprintf("a probe was answered with status %d", status)
	}
	p.mu.Lock()
	m.probeNote = note
	p.mu.Unlock()
	return result
}

// probeOptions are those of connections that only probes use: they never compete with requests.
func (p *Pool) probeOptions(m *member) h1.Options {
	target := m.target
	if p.probing.target != nil {
		target = *p.probing.target
	}
	options := p.options
	options.Network, options.Address, options.Authority = target.Network, target.Address, target.Host
	options.TLS = tlsFor(target, p.tls)
	options.ConnectTimeout, options.FirstByteTimeout, options.IdleTimeout = p.probing.settings.Timeout, 0, 0
	options.MaxConnections, options.MaxIdle, options.MaxWaiting = probesAtOnce, 0, probesAtOnce
	options.MaxResponseBody = 0
	return options
}

// probesAtOnce is one of the rhythm and some that were asked for at the same time.
const probesAtOnce = 16

// asking is the receiver of a probe's exchange.
type asking struct {
	exchange h1.Exchange
	status   int
	done     chan struct{}
	err      *h1.Error
}

func (a *asking) Respond(head *h1.Head, _ *h1.Body) error {
	a.status = head.Status
	return nil // the connection ends in any case
}

func (a *asking) Cancelled() {}

func (a *asking) Done(err *h1.Error) {
	a.err = err
	close(a.done)
}

func (p *Pool) ask(ctx context.Context, transport *h1.Transport) (status int, err error) {
	a := &asking{done: make(chan struct{})}
	a.exchange.Request, a.exchange.Receiver, a.exchange.ID = p.probing.request, a, 1
	a.exchange.Arm(transport)
	release := context.AfterFunc(ctx, func() { a.exchange.Cancel(1, ctx.Err()) })
	defer release()
	transport.Start(&a.exchange)
	<-a.done
	switch {
	case a.err == nil:
		return a.status, nil
	case errors.Is(a.err, context.DeadlineExceeded):
		return 0, fmt.Errorf("a probe was not answered within %v", p.probing.settings.Timeout.Round(time.Millisecond))
	}
	return 0, fmt.Errorf("a probe failed: %w", a.err)
}
