package retry

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func testPolicy() *Policy {
	return &Policy{
		MaxRetries: 3, Statuses: []int{502, 503, 504}, BaseDelay: 25 * time.Millisecond, MaxDelay: 250 * time.Millisecond,
		MaxRetryAfter: 30 * time.Second,
	}
}

func half() float64 { return 0.5 }

// sent is an attempt of a GET that was sent and got no answer.
func sent(change ...func(*Attempt)) *Attempt {
	a := &Attempt{Method: "GET", Replayable: true, Sent: true, Number: 1}
	for _, c := range change {
		c(a)
	}
	return a
}

func TestEachRule(t *testing.T) {
	for name, row := range map[string]struct {
		policy  func(*Policy)
		attempt *Attempt
		again   bool
		why     string
	}{
		"GET that was sent":         {nil, sent(), true, "the method may be sent again"},
		"nothing sent, any method":  {nil, sent(func(a *Attempt) { a.Method, a.Sent = "POST", false }), true, "nothing was sent"},
		"POST that was sent":        {nil, sent(func(a *Attempt) { a.Method = "POST" }), false, "the request may have reached the upstream"},
		"PUT":                       {nil, sent(func(a *Attempt) { a.Method = "PUT" }), false, "the request may have reached the upstream"},
		"PUT by option":             {func(p *Policy) { p.Methods = []string{"PUT"} }, sent(func(a *Attempt) { a.Method = "PUT" }), true, "the method may be sent again"},
		"Idempotency-Key":           {nil, sent(func(a *Attempt) { a.Method, a.IdempotencyKey = "POST", true }), true, "the method may be sent again"},
		"final":                     {nil, sent(func(a *Attempt) { a.Final, a.Sent = "the caller left", false }), false, "the caller left"},
		"certificate":               {nil, sent(func(a *Attempt) { a.Final, a.Sent = "the certificate was refused", false }), false, "the certificate was refused"},
		"no retries":                {func(p *Policy) { p.MaxRetries = 0 }, sent(), false, "retries are switched off"},
		"the last retry":            {nil, sent(func(a *Attempt) { a.Number = 3 }), true, "the method may be sent again"},
		"used up":                   {nil, sent(func(a *Attempt) { a.Number = 4 }), false, "the retries are used up"},
		"a byte of the response":    {nil, sent(func(a *Attempt) { a.Responded = true }), false, "the response had begun"},
		"a body that is gone":       {nil, sent(func(a *Attempt) { a.Replayable = false }), false, "the body cannot be sent again"},
		"a status":                  {nil, sent(func(a *Attempt) { a.Status, a.Responded = 503, true }), true, "the status is one that is retried"},
		"a status to a POST":        {nil, sent(func(a *Attempt) { a.Method, a.Status = "POST", 503 }), false, "the request may have reached the upstream"},
		"Retry-After":               {nil, sent(func(a *Attempt) { a.Status, a.RetryAfter, a.HasRetryAfter = 503, time.Second, true }), true, "the status is one that is retried"},
		"Retry-After, too long":     {nil, sent(func(a *Attempt) { a.Status, a.RetryAfter, a.HasRetryAfter = 503, time.Minute, true }), false, "the upstream asks to wait too long"},
		"Retry-After, past the end": {nil, sent(func(a *Attempt) { a.Status, a.RetryAfter, a.HasRetryAfter = 503, 20*time.Second, true }), false, "the deadline is too near"},
	} {
		t.Run(name, func(t *testing.T) {
			policy := testPolicy()
			if row.policy != nil {
				row.policy(policy)
			}
			budget := &Budget{Min: 1}
			verdict := policy.Judge(row.attempt, 10*time.Second, budget, half)
			assert.Equal(t, row.again, verdict.Again)
			assert.Equal(t, row.why, verdict.Why)
			assert.Equal(t, !row.again, budget.TryRetry(), "a retry takes one of the budget, a refusal none")
		})
	}
}

func TestDelays(t *testing.T) {
	policy := testPolicy()
	policy.MaxRetries = 10
	delay := func(a *Attempt, random float64) time.Duration {
		v := policy.Judge(a, time.Hour, &Budget{Min: 1}, func() float64 { return random })
		require.True(t, v.Again)
		return v.Delay
	}
	for number, most := range []time.Duration{25, 50, 100, 200, 250, 250} {
		a := sent(func(a *Attempt) { a.Number = number + 1 })
		assert.Zero(t, delay(a, 0))
		assert.Equal(t, most*time.Millisecond, delay(a, 1))
		assert.Equal(t, most*time.Millisecond/2, delay(a, 0.5))
	}
	elsewhere := sent(func(a *Attempt) { a.Sent, a.OtherUpstream = false, true })
	assert.Zero(t, delay(elsewhere, 1), "another upstream is tried at once")
	for name, change := range map[string]func(*Attempt){
		"nothing was sent, and there is no other upstream":  func(a *Attempt) { a.Sent = false },
		"something was sent, and there is another upstream": func(a *Attempt) { a.OtherUpstream = true },
	} {
		assert.Equal(t, 25*time.Millisecond, delay(sent(change), 1), name)
	}
	asked := sent(func(a *Attempt) { a.Status, a.RetryAfter, a.HasRetryAfter = 503, 2*time.Second, true })
	assert.Equal(t, 2*time.Second, delay(asked, 0))
	assert.Equal(t, 3*time.Second, delay(asked, 1))
	asked.RetryAfter = policy.MaxRetryAfter
	assert.Equal(t, policy.MaxRetryAfter, delay(asked, 0), "the longest that is waited for")
}

// Doubled that often, a delay fits no 64 bits.
func TestTheDelayOfAVeryLateAttemptIsTheLargest(t *testing.T) {
	policy := testPolicy()
	policy.MaxRetries = 1000
	for _, number := range []int{39, 40, 64, 65, 1000} {
		a := sent(func(a *Attempt) { a.Number = number })
		verdict := policy.Judge(a, time.Hour, &Budget{Min: 1}, func() float64 { return 1 })
		assert.Equal(t, policy.MaxDelay, verdict.Delay, "attempt %d", number)
	}
}

func TestTheDeadlineComesFirst(t *testing.T) {
	a := sent(func(a *Attempt) { a.Number = 2 })
	assert.False(t, testPolicy().Judge(a, 25*time.Millisecond, &Budget{Min: 1}, half).Again)
	assert.True(t, testPolicy().Judge(a, 26*time.Millisecond, &Budget{Min: 1}, half).Again)
}

// B13: at no time are more retries under way than the budget allows, and what was taken comes back.
func TestB13Budget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &Budget{Min: rapid.IntRange(0, 5).Draw(t, "min"), Ratio: rapid.Float64Range(0, 1).Draw(t, "ratio")}
		active, retries := 0, 0
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(*rapid.T) { b.Begin(); active++ },
			"end": func(t *rapid.T) {
				if active == 0 {
					t.Skip("none")
				}
				b.End()
				active--
			},
			"try": func(t *rapid.T) {
				limit := max(b.Min, int(b.Ratio*float64(active)))
				if got := b.TryRetry(); got != (retries < limit) {
					t.Fatalf("%v with %d of %d", got, retries, limit)
				} else if got {
					retries++
				}
			},
			"give back": func(t *rapid.T) {
				if retries == 0 {
					t.Skip("none")
				}
				b.EndRetry()
				retries--
			},
		})
	})
}

func TestB13ManyAtOnce(t *testing.T) {
	b := &Budget{Min: 3, Ratio: 0.2}
	for range 100 {
		b.Begin()
	}
	var mu sync.Mutex
	var group sync.WaitGroup
	taken := 0
	for range 200 {
		group.Go(func() {
			if b.TryRetry() {
				mu.Lock()
				taken++
				mu.Unlock()
			}
		})
	}
	group.Wait()
	assert.Equal(t, 20, taken)
	for range 20 {
		b.EndRetry()
	}
	for range 100 {
		b.End()
	}
	for range 3 {
		assert.True(t, b.TryRetry())
	}
	assert.False(t, b.TryRetry())
}

func TestJudgingDoesNotAllocate(t *testing.T) {
	policy, budget, a := testPolicy(), &Budget{Min: 1}, sent()
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if policy.Judge(a, time.Second, budget, half).Again {
			budget.EndRetry()
		}
	}))
}
