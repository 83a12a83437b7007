package health

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRunNowProbesAllAtOnceAndAppliesTheVerdicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		up.set(1, true)
		prober := newProber(t, steady(), 3, func(ctx context.Context, target int) Result {
			result := up.probe(ctx, target)
			time.Sleep(time.Duration(3-target) * 100 * time.Millisecond) // the last one is the first to answer
			return result
		}, up.changed)
		states, err := prober.RunNow(t.Context())
		require.NoError(t, err)
		require.Equal(t, []State{
			{0, true, true, Result{OK: true, Status: 200, Took: 300 * time.Millisecond}},
			{1, false, true, Result{Err: errRefused, Took: 200 * time.Millisecond}},
			{2, true, true, Result{OK: true, Status: 200, Took: 100 * time.Millisecond}},
		}, states)
		require.Equal(t, states, prober.States())
		require.Equal(t, 300*time.Millisecond, time.Since(up.began))
		probes, changes := up.take()
		require.Equal(t, []change{{1, false, 200 * time.Millisecond}}, changes, "one failure is enough")
		for _, p := range probes {
			require.Zero(t, p.at)
		}
		up.set(1, false)
		states, err = prober.RunNow(t.Context())
		require.NoError(t, err)
		require.True(t, states[1].Healthy, "one success is enough")
		_, changes = up.take()
		require.Len(t, changes, 1, "the others are not told again")
	})
}

func TestRunNowDoesNotDisturbTheTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		prober := newProber(t, steady(), 1, up.probe, up.changed)
		prober.Start()
		time.Sleep(15 * time.Second)
		_, err := prober.RunNow(t.Context())
		require.NoError(t, err)
		time.Sleep(10 * time.Second)
		probes, _ := up.take()
		require.Equal(t, []time.Duration{0, 10 * time.Second, 15 * time.Second, 20 * time.Second}, of(probes, 0))
	})
}

func TestRunNowKeepsTheTimeoutOfAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		prober := newProber(t, steady(), 1, waiting(make(chan int, 1)), up.changed)
		states, err := prober.RunNow(t.Context())
		require.NoError(t, err)
		require.ErrorIs(t, states[0].Last.Err, context.DeadlineExceeded)
		require.Equal(t, 2*time.Second, states[0].Last.Took)
		require.False(t, states[0].Healthy)
	})
}

// The caller's own limit says nothing about a target.
func TestACancelledRunNowAppliesOnlyWhatWasThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		up.set(0, true)
		began := make(chan int, 1)
		wait := waiting(began)
		prober := newProber(t, steady(), 2, func(ctx context.Context, target int) Result {
			if target == 1 {
				return wait(ctx, target)
			}
			return up.probe(ctx, target)
		}, up.changed)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		states, err := prober.RunNow(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Nil(t, states)
		require.Equal(t, time.Second, time.Since(up.began))
		_, changes := up.take()
		require.Equal(t, []change{{0, false, 0}}, changes)
		require.False(t, prober.States()[1].Known)
	})
}

func TestStopEndsRunNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		began, returned := make(chan int, 1), make(chan error, 1)
		prober := newProber(t, steady(), 1, waiting(began), up.changed)
		go func() {
			_, err := prober.RunNow(t.Context())
			returned <- err
		}()
		<-began
		prober.Stop()
		require.Equal(t, ErrStopped, <-returned)
		require.Zero(t, time.Since(up.began))
		_, err := prober.RunNow(t.Context())
		require.Equal(t, ErrStopped, err)
		require.Empty(t, began)
		_, changes := up.take()
		require.Empty(t, changes)
	})
}

func TestATargetThatIsRemovedDuringRunNowIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		began := make(chan int, 1)
		wait := waiting(began)
		prober := newProber(t, steady(), 3, func(ctx context.Context, target int) Result {
			if target == 1 {
				return wait(ctx, target)
			}
			return up.probe(ctx, target)
		}, up.changed)
		go func() {
			<-began
			prober.Remove(1)
		}()
		states, err := prober.RunNow(t.Context())
		require.NoError(t, err)
		require.Len(t, states, 2)
		require.Equal(t, 0, states[0].Target)
		require.Equal(t, 2, states[1].Target)
		require.Zero(t, time.Since(up.began))
	})
}

func TestRunNowWithoutTargets(t *testing.T) {
	up := newUpstreams()
	states, err := newProber(t, Defaults(), 0, up.probe, up.changed).RunNow(t.Context())
	require.NoError(t, err)
	require.Empty(t, states)
}

// While the callback of an earlier result is under way, RunNow waits with its own: it has told all when it returns.
func TestRunNowReturnsAfterAllItsChangesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		settings := steady()
		settings.Fall = 1
		up.set(0, true)
		prober := newProber(t, settings, 1, up.probe, func(target int, healthy bool) {
			time.Sleep(time.Second)
			up.changed(target, healthy)
		})
		prober.Start()
		time.Sleep(time.Millisecond)
		up.set(0, false)
		_, err := prober.RunNow(t.Context())
		require.NoError(t, err)
		_, changes := up.take()
		require.Equal(t, []change{{0, false, time.Second}, {0, true, 2 * time.Second}}, changes)
	})
}
