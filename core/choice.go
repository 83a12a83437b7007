package core

import (
	"slices"
	"time"

	"github.com/velithon/velithon-proxy/core/balance"
	"github.com/velithon/velithon-proxy/core/breaker"
)

// choice is the set of members that can be used at the moment, with the picker over them. It is immutable: a change
// makes a new one.
type choice struct {
	members []*member
	picker  balance.Picker
	panic   bool      // members are all there are, breakers are not asked
	kept    []bool    // by member: it is used in spite of its breaker; nil: none is
	until   time.Time // when it may have changed by time alone; zero: never
}

// current is the choice as things stand.
func (p *Pool) current() *choice {
	c := p.choice.Load()
	if p.stale.Load() {
		return p.choose()
	}
	if !c.until.IsZero() && !p.now().Before(c.until) {
		return p.choose()
	}
	return c
}

// usable reports whether there is an upstream that can be used.
func (p *Pool) usable() bool { return len(p.current().members) > 0 }

// admit picks a member for the next attempt and gets the permit of its breaker. nil: there is none.
func (p *Pool) admit(call *Call, permit *breaker.Permit) *member {
	c := p.current()
	if len(c.members) == 0 {
		return nil
	}
	if call.attempt.number == 0 {
		if i := c.picker.Pick(call.hash); p.admitTo(c, i, permit) {
			return c.members[i]
		}
	}
	return p.admitOther(call, c, permit)
}

// admitOther is admit for an attempt that follows another one, or whose first choice was refused: members that were
// tried come last.
func (p *Pool) admitOther(call *Call, c *choice, permit *breaker.Permit) *member {
	skip := make([]bool, len(c.members))
	refused := make([]bool, len(c.members))
	for i, m := range c.members {
		skip[i] = call.tried(m)
	}
	for range 2 {
		for {
			i := c.picker.Next(call.hash, skip)
			if i < 0 {
				break
			}
			if p.admitTo(c, i, permit) {
				return c.members[i]
			}
			refused[i], skip[i] = true, true
		}
		skip = refused
	}
	return nil
}

// admitTo gets the permit of a member's breaker, or does without it.
func (p *Pool) admitTo(c *choice, i int, permit *breaker.Permit) bool {
	_, ok := c.members[i].breaker.Admit(permit)
	if !ok && c.inSpite(i) {
		return true
	}
	if !ok || permit.Probing() {
		p.stale.Store(true) // the last place of a probe is taken without a change of state: nobody is to find it again
	}
	return ok
}

// inSpite reports whether a member is used whatever its breaker says.
func (c *choice) inSpite(i int) bool { return c.panic || (c.kept != nil && c.kept[i]) }

// tried reports whether an attempt of the call went to the member.
func (c *Call) tried(m *member) bool {
	for i := range c.Attempts {
		if c.Attempts[i].Upstream == m.number {
			return true
		}
	}
	return false
}

// hasOther reports whether the next attempt could go to a member that was not tried yet.
func (p *Pool) hasOther(call *Call) bool {
	for _, m := range p.current().members {
		if m != call.attempt.member && !call.tried(m) {
			return true
		}
	}
	return false
}

// choose makes a new choice.
func (p *Pool) choose() *choice {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.chooseLocked()
}

func (p *Pool) chooseLocked() *choice {
	p.stale.Store(false) // before looking: a change that comes meanwhile asks for another choice
	now := p.now()
	c := &choice{}
	candidates := make([]balance.Candidate, len(p.members))
	serving, usable := 0, 0 // of those that are not drained
	for i, m := range p.members {
		candidates[i] = balance.Candidate{Usable: m.usable(now), Backup: m.backup}
		if !m.draining && m.weight > 0 {
			serving++
			if candidates[i].Usable {
				usable++
			}
		}
		if at, waiting := m.breaker.Due(); waiting && !m.draining && at.After(now) {
			c.until = earlier(c.until, at)
		}
	}
	kept := p.keepLocked(candidates)
	if c.panic = float64(usable) < p.config.PanicThreshold*float64(serving); c.panic {
		for i, m := range p.members {
			candidates[i].Usable = !m.draining && m.weight > 0
		}
	}
	unit := p.weightUnit()
	strategy := p.config.Strategy
	chosen := make([]balance.Member, 0, serving)
	for _, i := range balance.Tier(candidates) {
		member, ramping := p.candidate(p.members[i], unit, now)
		if ramping {
			c.until = earlier(c.until, now.Add(rampStep))
			if strategy == "round_robin" || strategy == "random" {
				strategy = "weighted" // the others know no shares
			}
		}
		c.members = append(c.members, p.members[i])
		if kept != nil {
			c.kept = append(c.kept, kept[i])
		}
		chosen = append(chosen, member)
	}
	if len(chosen) > 0 {
		picker, err := balance.New(strategy, chosen, &p.attempts)
		if err != nil {
			panic(err) // names and weights were checked
		}
		c.picker = picker
	}
	p.choice.Store(c)
	return c
}

// keepLocked makes members usable that more breakers keep out of use than may: those that opened last. It returns which; nil
// if there are none.
func (p *Pool) keepLocked(candidates []balance.Candidate) (kept []bool) {
	most := max(1, int(p.config.BreakerMaxEjected*float64(len(p.members))))
	if most >= len(p.members) {
		return nil
	}
	var ejected []int
	for i, m := range p.members {
		if !candidates[i].Usable && m.healthy && !m.draining && m.weight > 0 {
			ejected = append(ejected, i)
		}
	}
	if len(ejected) <= most {
		return nil
	}
	failed := func(i int) time.Time { return p.members[i].breaker.Snapshot().LastFailure }
	slices.SortStableFunc(ejected, func(a, b int) int { return failed(a).Compare(failed(b)) })
	kept = make([]bool, len(p.members))
	for _, i := range ejected[most:] {
		kept[i], candidates[i].Usable = true, true
	}
	return kept
}

// rampStep is how often the share of an upstream grows during its slow start.
const rampStep = 100 * time.Millisecond

// weightUnit is the greatest common divisor of all weights: the shares are the same, and do not depend on who is usable.
func (p *Pool) weightUnit() int {
	unit := 0
	for _, m := range p.members {
		for a, b := unit, m.weight; ; a, b = b, a%b {
			if b == 0 {
				unit = a
				break
			}
		}
	}
	return max(unit, 1)
}
