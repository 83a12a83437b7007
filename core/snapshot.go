package core

//go:generate go run github.com/mailru/easyjson/easyjson@v0.9.2 snapshot.go

// Snapshot is the state of a pool at one moment.
//
//easyjson:json
type Snapshot struct {
	Target      string `json:"target"`
	Connections int    `json:"connections"` // open ones, idle or not
	Idle        int    `json:"idle"`
	InFlight    int    `json:"in_flight"` // calls under way
	Calls       uint64 `json:"calls"`     // calls that are over
	Failures    uint64 `json:"failures"`  // those of them that ended with an error
}

// Snapshot returns the state of the pool.
func (p *Pool) Snapshot() Snapshot {
	s := Snapshot{Target: p.config.Targets[0]}
	s.Connections, s.Idle = p.upstream.transport.Connections()
	p.active.mu.Lock()
	defer p.active.mu.Unlock()
	s.InFlight, s.Calls, s.Failures = p.active.size, p.active.done, p.active.fails
	return s
}
