package breaker

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
)

// act is what one goroutine did: a call of the breaker, or a step of its clock.
type act struct {
	what              string
	generation, probe uint64 // of the permit that is ended
	waited            time.Duration
}

// seen is what came of it.
type seen struct {
	generation, probe uint64 // of the permit that was given
	ok                bool
	state             State
}

// behaviour lets the reference take the place of the breaker in a history.
func behaviour(settings Settings) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return newReference(settings) },
		Step: func(state, input, output any) (bool, any) {
			r, did, saw := state.(reference), input.(act), output.(seen)
			switch did.what {
			case "admit":
				generation, probe, ok := r.admit()
				return ok == saw.ok && generation == saw.generation && probe == saw.probe, r
			case "success":
				r.success(did.generation, did.probe)
			case "failure":
				r.failure(did.generation, did.probe)
			case "ignore":
				r.counts(did.generation, did.probe)
			case "reset":
				r.reset()
			case "wait":
				r.now += did.waited
			case "snapshot":
				return r.state == saw.state && r.generation == saw.generation, r
			}
			return true, r
		},
		Equal: func(a, b any) bool { return a.(reference) == b.(reference) },
		DescribeOperation: func(input, output any) string {
			return fmt.Sprintf("%+v -> %+v", input, output)
		},
	}
}

// do carries out one act and fills what came of it.
func do(b *Breaker, c *clock, permits *[]Permit, dice *rand.Rand) (did act, saw seen, call func()) {
	end := func(what string, how func(*Permit)) (act, seen, func()) {
		i := dice.IntN(len(*permits))
		p := (*permits)[i]
		*permits = append((*permits)[:i], (*permits)[i+1:]...)
		return act{what: what, generation: p.generation, probe: p.probe}, seen{}, func() { how(&p) }
	}
	kind := dice.IntN(20)
	switch {
	case kind < 3 && len(*permits) > 0:
		return end("success", (*Permit).Success)
	case kind < 8 && len(*permits) > 0:
		return end("failure", func(p *Permit) { p.Failure("x") })
	case kind < 9 && len(*permits) > 0:
		return end("ignore", (*Permit).Ignore)
	case kind == 9:
		return act{what: "reset"}, seen{}, b.Reset
	case kind < 13:
		waited := time.Duration(dice.IntN(40)) * time.Second
		return act{what: "wait", waited: waited}, seen{}, func() { c.advance(waited) }
	}
	return act{what: "admit"}, seen{}, nil
}

// Row B2 and B7 for every interleaving: whatever eight goroutines see of one breaker could have been seen one call after
// the other.
func TestHistoriesAreLinearizable(t *testing.T) {
	settings := Settings{MaxFailures: 2, OpenTime: 60 * time.Second, MaxProbes: 2, Lease: 20 * time.Second}
	const histories, goroutines, calls = 500, 8, 20
	for number := range histories {
		c := newClock()
		b := New(settings, c.now, nil)
		start := time.Now()
		var mu sync.Mutex
		var history []porcupine.Operation
		var group sync.WaitGroup
		together := make(chan struct{})
		for client := range goroutines {
			group.Go(func() {
				<-together
				dice := rand.New(rand.NewPCG(uint64(number), uint64(client)))
				var permits []Permit
				for range calls {
					did, saw, call := do(b, c, &permits, dice)
					called := time.Since(start)
					if call != nil {
						call()
					} else {
						var p Permit
						if _, saw.ok = b.Admit(&p); saw.ok {
							saw.generation, saw.probe = p.generation, p.probe
							permits = append(permits, p)
						}
					}
					returned := time.Since(start)
					mu.Lock()
					history = append(history, porcupine.Operation{
						ClientId: client, Input: did, Output: saw, Call: int64(called), Return: int64(returned),
					})
					mu.Unlock()
				}
			})
		}
		close(together)
		group.Wait()
		result, info := porcupine.CheckOperationsVerbose(behaviour(settings), history, 10*time.Second)
		if result == porcupine.Illegal {
			path := filepath.Join(os.TempDir(), "breaker-history.html")
			require.NoError(t, porcupine.VisualizePath(behaviour(settings), info, path))
			require.Fail(t, "no order of its calls explains a history", "number %d: see %s", number, path)
		}
		require.Equal(t, porcupine.Ok, result, "number %d took too long to judge", number)
	}
}

// The check itself can fail.
func TestAHistoryThatCannotBe(t *testing.T) {
	settings := Settings{MaxFailures: 1, OpenTime: time.Minute, MaxProbes: 1, Lease: time.Minute}
	history := []porcupine.Operation{
		{Input: act{what: "admit"}, Output: seen{generation: 1, ok: true}, Call: 0, Return: 1},
		{Input: act{what: "failure", generation: 1}, Output: seen{}, Call: 2, Return: 3},
		{Input: act{what: "admit"}, Output: seen{generation: 1, ok: true}, Call: 4, Return: 5}, // it is open by then
	}
	require.False(t, porcupine.CheckOperations(behaviour(settings), history))
}
