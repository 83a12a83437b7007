package health

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheFirstRoundIsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		prober := newProber(t, Defaults(), 5, up.probe, up.changed)
		synctest.Wait()
		probes, _ := up.take()
		require.Empty(t, probes, "nothing before Start")
		prober.Start()
		synctest.Wait()
		probes, _ = up.take()
		require.Equal(t, []int{0, 1, 2, 3, 4}, targetsOf(probes))
		for _, p := range probes {
			require.Zero(t, p.at)
		}
		prober.Start()
		synctest.Wait()
		probes, _ = up.take()
		require.Empty(t, probes, "a second Start does nothing")
	})
}

func TestEachTargetIsProbedInEveryInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		settings := Defaults()
		newProber(t, settings, 7, up.probe, up.changed).Start()
		time.Sleep(10 * time.Minute)
		probes, _ := up.take()
		for target := range 7 {
			times := of(probes, target)
			require.InDelta(t, 60, len(times), 2, "target %d", target)
			require.Zero(t, times[0])
			var gaps []time.Duration
			for i := 1; i < len(times); i++ {
				gaps = append(gaps, times[i]-times[i-1])
			}
			require.Greater(t, gaps[0], settings.Interval/8)
			require.Less(t, gaps[0], settings.Interval*14/10)
			gaps = gaps[1:]
			require.GreaterOrEqual(t, slices.Min(gaps), 9*time.Second)
			require.LessOrEqual(t, slices.Max(gaps), 11*time.Second)
			require.Less(t, slices.Min(gaps), 9900*time.Millisecond, "jitter is at work")
			require.Greater(t, slices.Max(gaps), 10100*time.Millisecond, "jitter is at work")
		}
	})
}

func TestTargetsAreNotProbedInTheSameMomentAfterTheFirstRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		newProber(t, steady(), 8, up.probe, up.changed).Start()
		time.Sleep(5 * time.Minute)
		probes, _ := up.take()
		require.Greater(t, len(probes), 8*29)
		for i := 8; i < len(probes); i++ {
			require.Greater(t, probes[i].at-probes[i-1].at, 400*time.Millisecond, "an even spread has 1.25 s")
		}
	})
}

func TestAProbeIsCancelledAtItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		prober := newProber(t, Defaults(), 2, func(ctx context.Context, target int) Result {
			if target == 0 {
				<-ctx.Done()
				return Result{OK: true, Status: 200} // too late to be true
			}
			return up.probe(ctx, target)
		}, up.changed)
		prober.Start()
		synctest.Wait()
		require.False(t, prober.States()[0].Known)
		require.True(t, prober.States()[1].Known, "it does not wait for the other")
		time.Sleep(2*time.Second - time.Nanosecond)
		synctest.Wait()
		require.False(t, prober.States()[0].Known)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		last := prober.States()[0].Last
		require.False(t, last.OK)
		require.ErrorIs(t, last.Err, context.DeadlineExceeded)
		require.Equal(t, 2*time.Second, last.Took)
	})
}

func TestProbesOfATargetDoNotOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		settings := steady()
		settings.Timeout = time.Minute
		under := make(chan struct{}, 1)
		newProber(t, settings, 1, func(ctx context.Context, target int) Result {
			select {
			case under <- struct{}{}:
			default:
				t.Error("two probes of a target at the same time")
			}
			defer func() { <-under }()
			time.Sleep(25 * time.Second)
			return up.probe(ctx, target)
		}, up.changed).Start()
		time.Sleep(2*time.Minute + time.Second)
		probes, _ := up.take()
		ends := []time.Duration{25 * time.Second, 50 * time.Second, 75 * time.Second, 100 * time.Second}
		require.Equal(t, ends, of(probes, 0))
	})
}

func TestAPanicIsAFailedProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newUpstreams()
		prober := newProber(t, steady(), 2, func(ctx context.Context, target int) Result {
			result := up.probe(ctx, target)
			if target == 0 {
				panic("no such host")
			}
			return result
		}, up.changed)
		prober.Start()
		time.Sleep(time.Minute)
		probes, changes := up.take()
		require.Equal(t, []change{{0, false, 20 * time.Second}}, changes)
		require.Greater(t, len(of(probes, 0)), 5, "it is probed further")
		require.Greater(t, len(of(probes, 1)), 5, "so is the other")
		require.EqualError(t, prober.States()[0].Last.Err, "health: the probe panicked: no such host")
		require.False(t, prober.States()[0].Healthy)
		require.True(t, prober.States()[1].Healthy)
	})
}
