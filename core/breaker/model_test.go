package breaker

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// held is a permit that a caller has out, and its copy in the model.
type held struct {
	permit            *Permit
	generation, probe uint64
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
		m := newReference(settings)
		var out []held
		take := func(t *rapid.T) held {
			if len(out) == 0 {
				t.Skip("none is out")
			}
			i := rapid.IntRange(0, len(out)-1).Draw(t, "which")
			h := out[i]
			out = append(out[:i], out[i+1:]...)
			return h
		}
		t.Repeat(map[string]func(*rapid.T){
			"admit": func(t *rapid.T) {
				p := &Permit{}
				_, ok := b.Admit(p)
				generation, probe, want := m.admit()
				if ok != want {
					t.Fatalf("admitted %v, the model says %v in %v", ok, want, m.state)
				}
				if ok {
					out = append(out, held{p, generation, probe})
				}
			},
			"success": func(t *rapid.T) {
				h := take(t)
				h.permit.Success()
				m.success(h.generation, h.probe)
			},
			"failure": func(t *rapid.T) {
				h := take(t)
				h.permit.Failure("x")
				m.failure(h.generation, h.probe)
			},
			"ignore": func(t *rapid.T) {
				h := take(t)
				h.permit.Ignore()
				m.counts(h.generation, h.probe)
			},
			"lose": func(t *rapid.T) { take(t) },
			"wait": func(t *rapid.T) {
				waited := time.Duration(rapid.IntRange(0, 70).Draw(t, "seconds")) * time.Second
				c.advance(waited)
				m.now += waited
			},
			"reset": func(*rapid.T) {
				b.Reset()
				m.reset()
			},
			"": func(t *rapid.T) {
				s := b.Snapshot()
				probes := 0
				if m.state == HalfOpen {
					m.expire()
					probes = m.out
				}
				if s.State != m.state || s.Generation != m.generation || s.Failures != m.failures || s.Probes != probes {
					t.Fatalf("the breaker is %+v, the model %+v", s, m)
				}
			},
		})
	})
}
