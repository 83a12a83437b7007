package breaker

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// clock is the injected time.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Unix(1000, 0)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func testSettings() Settings {
	return Settings{MaxFailures: 3, OpenTime: time.Minute, MaxProbes: 1, Lease: 10 * time.Second}
}

// rig is a breaker with its clock and the changes it told of.
type rig struct {
	*Breaker
	*clock
	t       *testing.T
	changes []Change
}

func newRig(t *testing.T, change ...func(*Settings)) *rig {
	r := &rig{clock: newClock(), t: t}
	settings := testSettings()
	for _, c := range change {
		c(&settings)
	}
	r.Breaker = New(settings, r.clock.now, func(c Change) { r.changes = append(r.changes, c) })
	return r
}

func (r *rig) admit() *Permit {
	r.t.Helper()
	var p Permit
	_, ok := r.Admit(&p)
	require.True(r.t, ok)
	return &p
}

func (r *rig) refused() time.Duration {
	r.t.Helper()
	var p Permit
	after, ok := r.Admit(&p)
	require.False(r.t, ok)
	return after
}

func (r *rig) fail(times int) {
	r.t.Helper()
	for range times {
		r.admit().Failure("test")
	}
}

func (r *rig) state() State { return r.Snapshot().State }

func TestB1ChangesAreToldOnceAndInOrder(t *testing.T) {
	r := newRig(t)
	r.fail(3)
	r.advance(time.Minute)
	r.admit().Failure("again")
	r.advance(time.Minute)
	r.admit().Success()
	r.fail(3)
	r.Reset()
	var steps []string
	for i, c := range r.changes {
		steps = append(steps, c.From.String()+" > "+c.To.String())
		if i > 0 {
			assert.Equal(t, r.changes[i-1].Generation+1, c.Generation)
		}
	}
	assert.Equal(t, []string{
		"closed > open", "open > half_open", "half_open > open", "open > half_open", "half_open > closed",
		"closed > open", "open > closed",
	}, steps)
	assert.Equal(t, "test", r.changes[0].Reason)
	assert.Equal(t, "again", r.changes[2].Reason)
}

func TestB2ItTripsOnExactlyTheNthFailureInARow(t *testing.T) {
	r := newRig(t)
	r.fail(2)
	r.admit().Success()
	r.fail(2)
	assert.Equal(t, Closed, r.state())
	r.fail(1)
	assert.Equal(t, Open, r.state())
	assert.Equal(t, 3, r.Snapshot().Failures)
}

func TestB2TheRatioTripsOnTheFirstSampleThatCrossesIt(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.Ratio, s.Window, s.MinSamples = 0.5, 10*time.Second, 4 })
	r.fail(3)
	assert.Equal(t, Closed, r.state(), "too few samples")
	r.fail(1)
	assert.Equal(t, Open, r.state())

	r = newRig(t, func(s *Settings) { s.Ratio, s.Window, s.MinSamples = 0.5, 10*time.Second, 4 })
	for range 5 {
		r.admit().Success()
	}
	r.fail(4)
	assert.Equal(t, Closed, r.state(), "4 of 9")
	r.fail(1)
	assert.Equal(t, Open, r.state(), "5 of 10")
}

func TestB10TheWindowForgetsABucketAtATime(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.Ratio, s.Window, s.MinSamples = 0.9, 10*time.Second, 100 })
	r.fail(1)
	r.advance(time.Second)
	r.fail(2)
	r.advance(9*time.Second - 1)
	assert.Equal(t, 3, r.Snapshot().Failures)
	r.advance(1)
	assert.Equal(t, 2, r.Snapshot().Failures, "the first second is over")
	r.advance(time.Second)
	assert.Zero(t, r.Snapshot().Failures)
	r.fail(1)
	r.advance(time.Hour)
	assert.Zero(t, r.Snapshot().Failures, "idle gaps forget everything")
	r.fail(1)
	assert.Equal(t, 1, r.Snapshot().Failures)
}

// Row B10: a gap as long as the window forgets all of it, from whichever bucket it begins.
func TestB10AGapOfTheWholeWindow(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.Ratio, s.Window, s.MinSamples = 0.9, 10*time.Second, 1000 })
	for range 25 {
		for range buckets {
			r.fail(1)
			r.advance(time.Second)
		}
		r.advance(9 * time.Second)
		assert.Zero(t, r.Snapshot().Failures)
		r.advance(1100 * time.Millisecond)
	}
}

func TestB3OpenRefusesUntilItsTimeIsOver(t *testing.T) {
	r := newRig(t)
	r.fail(3)
	assert.Equal(t, time.Minute, r.refused())
	assert.False(t, r.Usable(r.clock.now()))
	at, waiting := r.Due()
	assert.True(t, waiting)
	assert.Equal(t, r.clock.now().Add(time.Minute), at)
	r.advance(time.Minute - 1)
	assert.EqualValues(t, 1, r.refused(), "not a nanosecond early")
	r.advance(1)
	assert.True(t, r.Usable(r.clock.now()))
	r.admit()
	assert.Equal(t, HalfOpen, r.state())
}

func TestB4OnlySoManyProbesAreOut(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.MaxProbes = 2 })
	r.fail(3)
	r.advance(time.Minute)
	first, second := r.admit(), r.admit()
	assert.Zero(t, r.refused())
	assert.False(t, r.Usable(r.clock.now()))
	first.Ignore()
	third := r.admit()
	r.refused()
	second.Success()
	assert.Equal(t, Closed, r.state())
	third.Failure("late")
	assert.Equal(t, Closed, r.state())
	assert.Zero(t, r.Snapshot().Failures, "B7")
}

func TestB5APermitEndsOnce(t *testing.T) {
	r := newRig(t)
	p := r.admit()
	p.Failure("once")
	p.Failure("twice")
	p.Success()
	p.Ignore()
	assert.Equal(t, 1, r.Snapshot().Failures)
	var zero Permit
	zero.Success()
	zero.Failure("")
	zero.Ignore()

	r.fail(2)
	r.advance(time.Minute)
	probe := r.admit()
	probe.Ignore()
	probe.Ignore()
	assert.Zero(t, r.Snapshot().Probes)
	r.admit()
	assert.Equal(t, 1, r.Snapshot().Probes)
}

func TestB6ALostProbeDoesNotWedgeIt(t *testing.T) {
	r := newRig(t)
	r.fail(3)
	r.advance(time.Minute)
	lost := r.admit()
	r.advance(10*time.Second - 1)
	r.refused()
	r.advance(1)
	probe := r.admit()
	lost.Failure("after its lease")
	assert.Equal(t, HalfOpen, r.state(), "it was taken for lost")
	probe.Success()
	assert.Equal(t, Closed, r.state())
}

func TestB7ResultsOfAnotherGenerationDoNotCount(t *testing.T) {
	r := newRig(t)
	old := []*Permit{r.admit(), r.admit(), r.admit(), r.admit()}
	r.fail(3)
	old[0].Success()
	assert.Equal(t, Open, r.state())
	r.advance(time.Minute)
	probe := r.admit()
	old[1].Success()
	old[2].Failure("late")
	assert.Equal(t, HalfOpen, r.state())
	probe.Success()
	old[3].Failure("late")
	assert.Zero(t, r.Snapshot().Failures)
	p := r.admit()
	r.Reset()
	p.Failure("before the reset")
	assert.Zero(t, r.Snapshot().Failures)
}

func TestB8WhatIsIgnoredCountsNothing(t *testing.T) {
	r := newRig(t)
	r.fail(2)
	for range 10 {
		r.admit().Ignore()
	}
	assert.Equal(t, 2, r.Snapshot().Failures, "neither a failure nor a success")
	r.fail(1)
	assert.Equal(t, Open, r.state())
}

func TestB11OpeningsInARowGrow(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.MaxOpenTime = 150 * time.Second })
	r.fail(3)
	for _, pause := range []time.Duration{60, 120, 150, 150} {
		assert.Equal(t, pause*time.Second, r.refused())
		r.advance(pause * time.Second)
		r.admit().Failure("still")
	}
	r.advance(150 * time.Second)
	r.admit().Success()
	r.fail(3)
	assert.Equal(t, time.Minute, r.refused(), "a success forgets them")
}

func TestSnapshotsTellTheLastFailure(t *testing.T) {
	r := newRig(t)
	assert.True(t, r.Snapshot().LastFailure.IsZero())
	r.fail(1)
	at := r.clock.now()
	r.advance(time.Second)
	r.admit().Success()
	assert.Equal(t, at, r.Snapshot().LastFailure)
	r.Reset()
	assert.True(t, r.Snapshot().LastFailure.IsZero())
}

// What something else finds to be well is well, unless the breaker has gone on since that began to look.
func TestRecoverEndsOnlyTheOpeningItHasSeen(t *testing.T) {
	r := newRig(t)
	closed := r.Generation()
	r.fail(1)
	r.Recover(closed, "found to be well")
	assert.Equal(t, 1, r.Snapshot().Failures, "a closed one counts on")
	assert.Equal(t, closed, r.Generation())
	r.fail(2)
	r.Recover(closed, "found to be well")
	assert.Equal(t, Open, r.state(), "it was closed when that began to look")
	opened := r.Generation()
	r.Recover(opened, "found to be well")
	assert.Equal(t, Closed, r.state())
	assert.Equal(t, "found to be well", r.changes[len(r.changes)-1].Reason)
	assert.Zero(t, r.Snapshot().Failures)

	r.fail(3)
	r.advance(time.Minute)
	r.admit()
	r.Recover(opened, "found to be well")
	assert.Equal(t, HalfOpen, r.state(), "it has opened once more since")
	r.Recover(r.Generation(), "found to be well")
	assert.Equal(t, Closed, r.state())
}

func TestOnlyThePermitOfAHalfOpenBreakerProbes(t *testing.T) {
	var zero Permit
	assert.False(t, zero.Probing())
	r := newRig(t)
	assert.False(t, r.admit().Probing())
	r.fail(3)
	r.advance(time.Minute)
	probe := r.admit()
	assert.True(t, probe.Probing())
	probe.Success()
	assert.False(t, probe.Probing(), "it is over")
}

// Nobody waits for a breaker that would let a request through now.
func TestDueSaysWhenTheNextRequestIsLetThrough(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.MaxProbes = 2 })
	nobodyWaits := func(why string) {
		t.Helper()
		at, waiting := r.Due()
		assert.False(t, waiting, why)
		assert.Zero(t, at, why)
	}
	nobodyWaits("nothing has failed")
	r.fail(1)
	nobodyWaits("too few have failed")
	r.fail(2)
	r.advance(time.Minute)
	r.admit()
	nobodyWaits("one more may probe")
	lost := r.clock.now().Add(testSettings().Lease)
	r.advance(time.Second)
	r.admit()
	at, waiting := r.Due()
	assert.True(t, waiting)
	assert.Equal(t, lost, at, "the older probe is the first to be lost")
	assert.False(t, r.Usable(r.clock.now()))
	r.advance(lost.Sub(r.clock.now()))
	assert.True(t, r.Usable(r.clock.now()))
}

// Admit and Success are on the way of every request: while there is nothing to forget they take no lock and ask no clock.
func TestAQuietBreakerAsksNoClock(t *testing.T) {
	asked := 0
	c := newClock()
	b := New(testSettings(), func() time.Time { asked++; return c.now() }, nil)
	succeed := func() {
		var p Permit
		_, ok := b.Admit(&p)
		require.True(t, ok)
		p.Success()
	}
	succeed()
	assert.Zero(t, asked)
	var p Permit
	b.Admit(&p)
	p.Failure("test")
	succeed()
	assert.NotZero(t, asked, "it had a failure to forget")
	asked = 0
	succeed()
	assert.Zero(t, asked, "it has forgotten it")
}

// A window that is too short to be divided counts nothing, as if there were none.
func TestAWindowWithoutLengthCountsNothing(t *testing.T) {
	for _, window := range []time.Duration{0, buckets - 1} {
		r := newRig(t, func(s *Settings) { s.Ratio, s.Window, s.MinSamples = 0.5, window, 1 })
		r.fail(5)
		r.admit().Success()
		assert.Equal(t, Closed, r.state())
		assert.Zero(t, r.Snapshot().Failures)
	}
}

// Every interleaving of many callers: the limit holds, probes never exceed theirs, and it recovers.
func TestManyCallersAtOnce(t *testing.T) {
	c := newClock()
	var opened atomic.Int32
	b := New(Settings{MaxFailures: 50, OpenTime: time.Minute, MaxProbes: 3, Lease: time.Minute}, c.now, func(c Change) {
		if c.To == Open {
			opened.Add(1)
		}
	})
	run := func(callers int, end func(*Permit)) (admitted int32) {
		var count atomic.Int32
		var group sync.WaitGroup
		for range callers {
			group.Go(func() {
				var p Permit
				if _, ok := b.Admit(&p); ok {
					count.Add(1)
					end(&p)
				}
			})
		}
		group.Wait()
		return count.Load()
	}
	run(49, func(p *Permit) { p.Failure("x") })
	assert.Zero(t, opened.Load())
	run(100, func(p *Permit) { p.Failure("x") })
	assert.EqualValues(t, 1, opened.Load(), "B2")
	assert.Zero(t, run(100, func(*Permit) {}), "B3")
	c.advance(time.Minute)
	var mu sync.Mutex
	var probes []*Permit
	assert.EqualValues(t, 3, run(200, func(p *Permit) { mu.Lock(); probes = append(probes, p); mu.Unlock() }), "B4")
	probes[0].Success()
	assert.EqualValues(t, 500, run(500, func(p *Permit) { p.Success() }), "B6")
}

func TestAdmitDoesNotAllocate(t *testing.T) {
	r := newRig(t)
	var p Permit
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		r.Admit(&p)
		p.Success()
	}))
	r.fail(1)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		r.Admit(&p)
		p.Ignore()
	}))
}

func BenchmarkAdmit(b *testing.B) {
	breaker := New(testSettings(), time.Now, nil)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var p Permit
		for pb.Next() {
			breaker.Admit(&p)
			p.Success()
		}
	})
}
