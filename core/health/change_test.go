package health

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// waiting returns a probe that tells that it has begun and then waits for the end of its context.
func waiting(began chan<- int) Probe {
	return func(ctx context.Context, target int) Result {
		began <- target
		<-ctx.Done()
		return Result{Err: ctx.Err()}
	}
}

func TestStopCutsProbesShortAndDropsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		settings := steady()
		settings.Fall = 1
		began := make(chan int, 3)
		prober := newProber(t, settings, 3, waiting(began), up.changed)
		prober.Start()
		for range 3 {
			<-began
		}
		prober.Stop()
		require.Zero(t, time.Since(up.began), "at once")
		for _, state := range prober.States() {
			require.True(t, state.Healthy)
			require.False(t, state.Known)
		}
		prober.Stop()
		prober.Start()
		prober.Add()
		time.Sleep(time.Minute)
		require.Empty(t, began, "nothing runs any more")
		_, changes := up.take()
		require.Empty(t, changes)
	})
}

// The end of a synctest bubble fails if a goroutine is left; here Stop alone must have ended them.
func TestNothingIsLeftAfterStop(t *testing.T) {
	for _, probers := range []int{0, 1, 20} {
		synctest.Test(t, func(t *testing.T) {
			up := newUpstreams()
			prober := newProber(t, Defaults(), probers, up.probe, up.changed)
			prober.Start()
			time.Sleep(time.Minute)
			prober.Stop()
			up.take()
			time.Sleep(time.Minute)
			probes, _ := up.take()
			require.Empty(t, probes)
		})
	}
}

func TestATargetThatIsAddedIsProbedAtOnceAndInItsTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		prober := newProber(t, steady(), 1, up.probe, up.changed)
		require.Equal(t, 1, prober.Add())
		prober.Start()
		time.Sleep(33 * time.Second)
		require.Equal(t, 2, prober.Add())
		synctest.Wait()
		state := prober.States()[2]
		require.Equal(t, State{Target: 2, Healthy: true, Known: true, Last: Result{OK: true, Status: 200}}, state)
		time.Sleep(27 * time.Second)
		probes, _ := up.take()
		times := of(probes, 2)
		require.Equal(t, 33*time.Second, times[0])
		require.Equal(t, 42360*time.Millisecond, times[1].Truncate(10*time.Millisecond), "its phase is 0.236")
		require.Equal(t, 10*time.Second, times[2]-times[1])
		require.Len(t, times, 3)
	})
}

func TestATargetThatIsRemovedIsProbedNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		prober := newProber(t, steady(), 3, up.probe, up.changed)
		prober.Start()
		time.Sleep(25 * time.Second)
		up.take()
		prober.Remove(1)
		prober.Remove(1)
		prober.Remove(99)
		time.Sleep(time.Minute)
		probes, _ := up.take()
		require.Empty(t, of(probes, 1))
		require.Len(t, of(probes, 0), 6)
		require.Len(t, of(probes, 2), 6)
		states := prober.States()
		require.Len(t, states, 2)
		require.Equal(t, 2, states[1].Target)
		require.Equal(t, 3, prober.Add(), "no number is used again")
	})
}

func TestAProbeOfARemovedTargetIsCancelledAndDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		settings := steady()
		settings.Fall = 1
		began, ended := make(chan int, 1), make(chan error, 1)
		wait := waiting(began)
		prober := newProber(t, settings, 1, func(ctx context.Context, target int) Result {
			result := wait(ctx, target)
			ended <- result.Err
			return result
		}, up.changed)
		prober.Start()
		<-began
		prober.Remove(0)
		require.ErrorIs(t, <-ended, context.Canceled)
		require.Zero(t, time.Since(up.began))
		time.Sleep(time.Minute)
		_, changes := up.take()
		require.Empty(t, changes)
	})
}

// Run with the race detector: everything at the same time, and what was told adds up.
func TestAllAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := Defaults()
		settings.Rise, settings.Fall, settings.Interval = 1, 1, time.Millisecond
		var mu sync.Mutex
		told := map[int][]bool{}
		prober := newProber(t, settings, 4, func(context.Context, int) Result {
			time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
			return Result{OK: rand.IntN(2) == 0}
		}, func(target int, healthy bool) {
			mu.Lock()
			defer mu.Unlock()
			told[target] = append(told[target], healthy)
		})
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for range 50 {
					number := prober.Add()
					states, err := prober.RunNow(t.Context())
					if err != nil || len(states) < 4 {
						t.Errorf("%v, %v", states, err)
					}
					prober.Remove(number)
					if g == 0 {
						prober.Start()
					}
				}
			})
		}
		wg.Wait()
		prober.Stop()
		states := prober.States()
		require.Len(t, states, 4)
		changes := 0
		for target, verdicts := range told {
			changes += len(verdicts)
			for i, healthy := range verdicts {
				require.Equal(t, i%2 == 1, healthy, "target %d: each change is told once, in order", target)
			}
		}
		require.Greater(t, changes, 100)
		for _, state := range states {
			if verdicts := told[state.Target]; len(verdicts) > 0 {
				require.Equal(t, verdicts[len(verdicts)-1], state.Healthy)
			}
		}
	})
}
