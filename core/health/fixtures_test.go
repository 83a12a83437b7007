package health

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var errRefused = errors.New("refused")

// probed is an entry of the ledger: a probe of a target began.
type probed struct {
	target int
	at     time.Duration
}

// change is an entry of the ledger: the callback was called.
type change struct {
	target  int
	healthy bool
	at      time.Duration
}

// upstreams is what a prober probes in these tests: any number of targets that pass or fail as they are told, and a
// ledger of what happened when.
type upstreams struct {
	began time.Time

	mu      sync.Mutex
	down    map[int]bool
	probes  []probed
	changes []change
}

func newUpstreams() *upstreams {
	return &upstreams{began: time.Now(), down: map[int]bool{}}
}

func (u *upstreams) probe(_ context.Context, target int) Result {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.probes = append(u.probes, probed{target, time.Since(u.began)})
	if u.down[target] {
		return Result{Err: errRefused}
	}
	return Result{OK: true, Status: 200}
}

func (u *upstreams) changed(target int, healthy bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.changes = append(u.changes, change{target, healthy, time.Since(u.began)})
}

func (u *upstreams) set(target int, down bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.down[target] = down
}

// take returns the ledger and begins a new one.
func (u *upstreams) take() (probes []probed, changes []change) {
	u.mu.Lock()
	defer u.mu.Unlock()
	probes, changes = u.probes, u.changes
	u.probes, u.changes = nil, nil
	return probes, changes
}

// of returns the times of the probes of one target.
func of(probes []probed, target int) []time.Duration {
	var times []time.Duration
	for _, p := range probes {
		if p.target == target {
			times = append(times, p.at)
		}
	}
	return times
}

func targetsOf(probes []probed) []int {
	targets := make([]int, len(probes))
	for i, p := range probes {
		targets[i] = p.target
	}
	slices.Sort(targets)
	return targets
}

// steady returns settings without jitter, so that the times of probes are known.
func steady() Settings {
	settings := Defaults()
	settings.Jitter = 0
	return settings
}

// newProber returns a prober that is stopped at the end of the test.
func newProber(t *testing.T, settings Settings, targets int, probe Probe, changed Changed) *Prober {
	t.Helper()
	prober, err := NewProber(settings, targets, probe, changed)
	require.NoError(t, err)
	t.Cleanup(prober.Stop)
	return prober
}
