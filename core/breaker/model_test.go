package breaker

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model says in a few lines what a breaker with consecutive failures must do.
type model struct {
	state      State
	generation uint64
	failures   int
	due        time.Time
	probes     map[int]time.Time // permit to the end of its lease
}

// held is a permit that a caller has out.
type held struct {
	permit     *Permit
	generation uint64
	id         int
}

// The breaker and the model agree after any sequence of calls, late and lost results among them.
func TestTheBreakerAgreesWithItsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		settings := Settings{
			MaxFailures: rapid.IntRange(1, 4).Draw(t, "failures"), OpenTime: 60 * time.Second,
			MaxProbes: rapid.IntRange(1, 3).Draw(t, "probes"), Lease: 20 * time.Second,
		}
		c := newClock()
		b := New(settings, c.now, nil)
		m := model{generation: 1, probes: map[int]time.Time{}}
		var out []held
		next := 0
		expire := func() {
			for id, until := range m.probes {
				if !c.now().Before(until) {
					delete(m.probes, id)
				}
			}
		}
		become := func(to State) {
			m.state = to
			m.generation++
			m.probes = map[int]time.Time{}
			if to == Closed {
				m.failures = 0
			}
			if to == Open {
				m.due = c.now().Add(settings.OpenTime)
			}
		}
		end := func(t *rapid.T) (held, bool) {
			if len(out) == 0 {
				t.Skip("none is out")
			}
			i := rapid.IntRange(0, len(out)-1).Draw(t, "which")
			h := out[i]
			out = append(out[:i], out[i+1:]...)
			counts := h.generation == m.generation
			if counts && m.state == HalfOpen {
				expire()
				_, counts = m.probes[h.id]
				delete(m.probes, h.id)
			}
			return h, counts
		}
		t.Repeat(map[string]func(*rapid.T){
			"admit": func(t *rapid.T) {
				p := &Permit{}
				_, ok := b.Admit(p)
				want := true
				if m.state == Open {
					if want = !c.now().Before(m.due); want {
						become(HalfOpen)
					}
				}
				if m.state == HalfOpen {
					expire()
					want = want && len(m.probes) < settings.MaxProbes
				}
				if ok != want {
					t.Fatalf("admitted %v, the model says %v in %v", ok, want, m.state)
				}
				if !ok {
					return
				}
				next++
				if m.state == HalfOpen {
					m.probes[next] = c.now().Add(settings.Lease)
				}
				out = append(out, held{p, m.generation, next})
			},
			"success": func(t *rapid.T) {
				h, counts := end(t)
				h.permit.Success()
				if counts {
					m.failures = 0
					if m.state == HalfOpen {
						become(Closed)
					}
				}
			},
			"failure": func(t *rapid.T) {
				h, counts := end(t)
				h.permit.Failure("x")
				if counts {
					m.failures++
					if m.state == HalfOpen || m.failures >= settings.MaxFailures {
						become(Open)
					}
				}
			},
			"ignore": func(t *rapid.T) {
				h, _ := end(t)
				h.permit.Ignore()
			},
			"lose": func(t *rapid.T) {
				if len(out) == 0 {
					t.Skip("none is out")
				}
				out = out[1:]
			},
			"wait": func(t *rapid.T) {
				c.advance(time.Duration(rapid.IntRange(0, 70).Draw(t, "seconds")) * time.Second)
			},
			"reset": func(*rapid.T) {
				b.Reset()
				if m.state != Closed {
					become(Closed)
				} else {
					m.generation++
					m.failures = 0
				}
			},
			"": func(t *rapid.T) {
				s := b.Snapshot()
				expire()
				probes := 0
				if m.state == HalfOpen {
					probes = len(m.probes)
				}
				if s.State != m.state || s.Generation != m.generation || s.Failures != m.failures || s.Probes != probes {
					t.Fatalf("the breaker is %+v, the model %+v", s, m)
				}
			},
		})
	})
}
