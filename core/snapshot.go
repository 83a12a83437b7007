package core

import (
	"time"

	"github.com/velithon/velithon-proxy/core/breaker"
)

//go:generate go run github.com/mailru/easyjson/easyjson@v0.9.2 snapshot.go

// Snapshot is the state of a pool at one moment.
//
//easyjson:json
type Snapshot struct {
	Strategy    string           `json:"strategy"`
	InFlight    int              `json:"in_flight"`   // calls under way
	Waiting     int              `json:"waiting"`     // those of them that wait to be let in, or for an upstream to be usable
	Calls       uint64           `json:"calls"`       // calls that are over
	Failures    uint64           `json:"failures"`    // those of them that ended with an error
	Retries     uint64           `json:"retries"`     // attempts after the first
	Refused     uint64           `json:"refused"`     // calls for which no upstream could be used
	Connections int              `json:"connections"` // open ones to all upstreams, idle or not
	Idle        int              `json:"idle"`
	Targets     []TargetSnapshot `json:"targets"` // in the order given
}

// TargetSnapshot is the state of one upstream. Times are in milliseconds.
//
//easyjson:json
type TargetSnapshot struct {
	Number        int     `json:"number"` // see Pool
	Target        string  `json:"target"` // as it was given
	Weight        int     `json:"weight"`
	Backup        bool    `json:"backup"`
	Draining      bool    `json:"draining"`
	Usable        bool    `json:"usable"`           // requests may go there now
	Healthy       bool    `json:"healthy"`          // by the probes; true while there are none
	Probe         string  `json:"probe"`            // what the last one found; empty before
	Breaker       string  `json:"breaker"`          // "closed", "open" or "half_open"
	Failures      int     `json:"breaker_failures"` // in a row, or in the window
	LastFailureMS float64 `json:"last_failure_ms"`  // since the last failure; -1: there was none
	RetryAfterMS  float64 `json:"retry_after_ms"`   // until an open breaker lets a probe through
	InFlight      int64   `json:"in_flight"`        // attempts
	Connections   int     `json:"connections"`
	Idle          int     `json:"idle"`
}

// Snapshot returns the state of the pool.
func (p *Pool) Snapshot() Snapshot {
	s := Snapshot{
		Strategy: p.config.Strategy, Waiting: p.waiting.waiting() + p.holding.waiting(),
		Retries: p.retries.Load(), Refused: p.refused.Load(),
	}
	p.mu.Lock()
	now := p.now()
	for _, m := range p.members {
		target := m.snapshot(now)
		s.Connections += target.Connections
		s.Idle += target.Idle
		s.Targets = append(s.Targets, target)
	}
	p.mu.Unlock()
	p.active.mu.Lock()
	defer p.active.mu.Unlock()
	s.InFlight, s.Calls, s.Failures = p.active.size, p.active.done, p.active.fails
	return s
}

func (m *member) snapshot(now time.Time) TargetSnapshot {
	state := m.breaker.Snapshot()
	s := TargetSnapshot{
		Number: m.number, Target: m.target.Given, Weight: m.weight, Backup: m.backup, Draining: m.draining,
		Usable: m.usable(now), Healthy: m.healthy, Probe: m.probeNote,
		Breaker: state.State.String(), Failures: state.Failures, LastFailureMS: -1, InFlight: m.active.Load(),
	}
	if !state.LastFailure.IsZero() {
		s.LastFailureMS = float64(max(now.Sub(state.LastFailure), 0)) / float64(time.Millisecond)
	}
	if state.State == breaker.Open {
		s.RetryAfterMS = float64(state.RetryAfter) / float64(time.Millisecond)
	}
	s.Connections, s.Idle = m.transport.Connections()
	return s
}
