package health

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestAChangeIsToldOnceAndAtItsProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		prober := newProber(t, steady(), 2, up.probe, up.changed)
		prober.Start()
		time.Sleep(5 * time.Second)
		up.set(0, true)
		time.Sleep(time.Minute) // probes at 10, 20, 30 s and so on
		_, changes := up.take()
		require.Equal(t, []change{{0, false, 30 * time.Second}}, changes)
		require.Equal(t, State{Target: 0, Known: true, Last: Result{Err: errRefused}}, prober.States()[0])
		up.set(0, false)
		time.Sleep(time.Minute)
		_, changes = up.take()
		require.Equal(t, []change{{0, true, 80 * time.Second}}, changes)
		require.Equal(t, State{Healthy: true, Known: true, Last: Result{OK: true, Status: 200}}, prober.States()[0])
	})
}

// Row F17: a target that changes faster than the thresholds count is left as it is.
func TestAFlappingTargetDoesNotFlapTheVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		newProber(t, steady(), 1, up.probe, up.changed).Start()
		for turn := range 60 {
			time.Sleep(5 * time.Second)
			up.set(0, turn%2 == 0)
			time.Sleep(5 * time.Second)
		}
		probes, changes := up.take()
		require.Greater(t, len(probes), 55)
		require.Empty(t, changes)
	})
}

// Whatever the targets do, the callback hears what a tracker of the same results says.
func TestTheCallbackHearsWhatTheTrackersSay(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		const targets = 3
		script := rapid.SliceOfN(rapid.Bool(), 200, 200).Draw(r, "script")
		var mu sync.Mutex
		var want, told [targets][]bool
		step := 0
		synctest.Test(t, func(t *testing.T) {
			var trackers [targets]Tracker
			for i := range trackers {
				trackers[i] = NewTracker(2, 3)
			}
			prober := newProber(t, Defaults(), targets, func(_ context.Context, target int) Result {
				mu.Lock()
				defer mu.Unlock()
				ok := script[step%len(script)]
				step++
				if changed, healthy := trackers[target].Report(ok); changed {
					want[target] = append(want[target], healthy)
				}
				return Result{OK: ok}
			}, func(target int, healthy bool) {
				mu.Lock()
				defer mu.Unlock()
				told[target] = append(told[target], healthy)
			})
			prober.Start()
			time.Sleep(10 * time.Minute)
			synctest.Wait() // a probe may be between its result and its callback
			prober.Stop()
		})
		require.Greater(r, step, targets*50)
		require.Equal(r, want, told)
	})
}

func TestTheCallbackMayAskAndChangeTheProber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		up.set(0, true)
		var prober *Prober
		var seen []State
		prober = newProber(t, steady(), 2, up.probe, func(target int, healthy bool) {
			seen = prober.States()
			prober.Remove(target)
			prober.Add()
			up.changed(target, healthy)
		})
		prober.Start()
		time.Sleep(time.Minute)
		_, changes := up.take()
		require.Equal(t, []change{{0, false, 20 * time.Second}}, changes)
		require.False(t, seen[0].Healthy, "the verdict holds when it is told")
		states := prober.States()
		require.Equal(t, 1, states[0].Target)
		require.Equal(t, 2, states[1].Target)
		require.True(t, states[1].Known)
	})
}

func TestAPanicOfTheCallbackIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		up.set(0, true)
		calls := 0
		prober := newProber(t, steady(), 1, up.probe, func(int, bool) {
			calls++
			panic("a mistake")
		})
		prober.Start()
		time.Sleep(21 * time.Second)
		require.EqualError(t, prober.States()[0].Last.Err, "health: the callback panicked: a mistake")
		up.set(0, false)
		time.Sleep(30 * time.Second)
		prober.Stop()
		require.Equal(t, 2, calls, "it is told the next change")
		require.True(t, prober.States()[0].Healthy)
	})
}
