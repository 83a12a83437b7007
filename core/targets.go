package core

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/velithon/velithon-proxy/core/balance"
)

// NextTarget is the target, as it was given, that the next request with this key would go to. It takes a turn.
func (p *Pool) NextTarget(key []byte) (string, *Error) {
	if p.closed.Load() {
		return "", closedError()
	}
	c := p.current()
	if len(c.members) == 0 {
		return "", p.noUpstream()
	}
	return c.members[c.picker.Pick(p.hash(&Call{Key: key}))].target.Given, nil
}

// AddTarget adds an upstream and returns its number: the one that the caller wants, which must be new, or the next one for
// -1. The error is a *ConfigError.
func (p *Pool) AddTarget(given string, weight int, backup bool, wanted int) (number int, err error) {
	targets, err := parseTargets("target", []string{given}, map[string]string{})
	if err != nil {
		return 0, err
	}
	if err := p.config.checkTLS(targets[0]); err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.members {
		if m.target.key == targets[0].key {
			return 0, &ConfigError{Field: "target", Message: "target " + quote(given) + " is there already, as " + quote(m.target.Given)}
		}
	}
	if weight != 1 && !slices.Contains(weighing, p.config.Strategy) {
		return 0, notWeighing("weight", p.config.Strategy)
	}
	if err := p.checkWeightLocked(weight, nil); err != nil {
		return 0, err
	}
	number = max(wanted, 0)
	if wanted < 0 {
		number = p.added
	} else if p.memberLocked(number) != nil {
		return 0, &ConfigError{Field: "number", Message: fmt.Sprintf("number %d is in use", number)}
	}
	m := p.newMember(number, targets[0], weight, backup)
	p.welcome(m)
	if p.prober != nil {
		m.probed = p.prober.Add()
	}
	p.added = max(p.added, number+1)
	p.members = append(p.members, m)
	p.chooseLocked()
	return m.number, nil
}

// SetWeight changes the share of an upstream; 0: it gets nothing more.
func (p *Pool) SetWeight(given string, weight int) error {
	return p.change(given, func(m *member) error {
		if !slices.Contains(weighing, p.config.Strategy) {
			return notWeighing("weight", p.config.Strategy)
		}
		if err := p.checkWeightLocked(weight, m); err != nil {
			return err
		}
		m.weight = weight
		return nil
	})
}

// Drain lets the requests at an upstream finish and sends it nothing new, until it is resumed.
func (p *Pool) Drain(given string, draining bool) error {
	return p.change(given, func(m *member) error {
		if m.draining && !draining {
			p.welcome(m)
		}
		m.draining = draining
		return nil
	})
}

// RemoveTarget forgets an upstream. Requests at it finish.
func (p *Pool) RemoveTarget(given string) error {
	var removed *member
	err := p.change(given, func(m *member) error {
		if len(p.members) == 1 {
			return &ConfigError{Field: "target", Message: "target " + quote(given) + " is the only one"}
		}
		p.members = slices.DeleteFunc(slices.Clone(p.members), func(other *member) bool { return other == m })
		if p.prober != nil {
			p.prober.Remove(m.probed)
		}
		m.draining = true
		removed = m
		return nil
	})
	if removed != nil {
		removed.close() // without the lock: what waits there for a connection looks for another upstream at once
	}
	return err
}

// change does something to the upstream that was given so, or means the same.
func (p *Pool) change(given string, do func(*member) error) error {
	target, err := ParseTarget(given)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.members, func(m *member) bool { return m.target.key == target.key })
	if i < 0 {
		return &ConfigError{Field: "target", Message: "target " + quote(given) + " is none of this pool's"}
	}
	if err := do(p.members[i]); err != nil {
		return err
	}
	p.chooseLocked()
	return nil
}

// close ends the connections of a member: idle ones now, others after their exchange.
func (m *member) close() {
	m.transport.Close()
	if m.probes != nil {
		m.probes.Close()
	}
}

// ResetBreakers closes the breaker of a target and forgets its failures; of all targets for "".
func (p *Pool) ResetBreakers(given string) error {
	if given != "" {
		return p.change(given, func(m *member) error { m.breaker.Reset(); return nil })
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.members {
		m.breaker.Reset()
	}
	return nil
}

// checkWeightLocked checks a weight for a member, or for one that is yet to come.
func (p *Pool) checkWeightLocked(weight int, of *member) error {
	if weight < 0 || weight > maxWeight {
		return &ConfigError{
			Field:   "weight",
			Message: fmt.Sprintf("weight must be a whole number from 0 to %d, not %s", maxWeight, strconv.Itoa(weight)),
		}
	}
	sum := weight
	for _, m := range p.members {
		if m != of {
			sum += m.weight
		}
	}
	if sum == 0 || sum > maxWeights {
		return &ConfigError{Field: "weight", Message: fmt.Sprintf("weight %d makes a sum of %d; 1 to %d is possible", weight, sum, maxWeights)}
	}
	return nil
}

// Weights of a pool: at most these, so that their sum in hundredths is one that balance takes.
const (
	maxWeight  = 1_000_000
	maxWeights = balance.MaxTotalWeight / balance.RampUnit
)
