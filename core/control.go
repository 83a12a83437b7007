package core

import (
	"context"
	"errors"
	"time"

	"github.com/mailru/easyjson"
)

//go:generate go run github.com/mailru/easyjson/easyjson@v0.9.2 -no_std_marshalers control.go

// order is the argument of a control operation.
//
//easyjson:json
type order struct {
	Target   string `json:"target"`
	Weight   int    `json:"weight"`
	Backup   bool   `json:"backup"`
	Number   int    `json:"number"`
	Draining bool   `json:"draining"`
	Key      []byte `json:"key"` // in base64
	Since    uint64 `json:"since"`
}

// result is the outcome of one that has another than Snapshot.
//
//easyjson:json
type result struct {
	Target  string         `json:"target,omitempty"`
	Number  int            `json:"number,omitempty"`
	Last    uint64         `json:"last,omitempty"`
	Changes []changeRecord `json:"changes,omitempty"`
}

// changeRecord is Change as it crosses the border.
//
//easyjson:json
type changeRecord struct {
	Upstream int     `json:"upstream"`
	Target   string  `json:"target"`
	What     string  `json:"what"`
	Before   string  `json:"before"`
	After    string  `json:"after"`
	Reason   string  `json:"reason"`
	At       float64 `json:"at"` // seconds since 1970
}

// attemptRecord is Attempt as it crosses the border.
//
//easyjson:json
type attemptRecord struct {
	Upstream  int     `json:"upstream"`
	Target    string  `json:"target"`
	Status    int     `json:"status"`
	Code      Code    `json:"code"`
	Error     string  `json:"error"`
	Phase     Phase   `json:"phase"`
	Sent      bool    `json:"sent"`
	Responded bool    `json:"responded"`
	ElapsedMS float64 `json:"elapsed_ms"`
	Retried   bool    `json:"retried"`
	Reason    string  `json:"reason"`
}

//easyjson:json
type attemptRecords []attemptRecord

// AttemptsJSON is Attempts as it crosses the border; nil if there is nothing to tell.
func (c *Call) AttemptsJSON() []byte {
	if len(c.Attempts) == 0 {
		return nil
	}
	records := make(attemptRecords, len(c.Attempts))
	for i, a := range c.Attempts {
		r := attemptRecord{
			Upstream: a.Upstream, Target: a.Target, Status: a.Status, Sent: a.Status != 0, Responded: a.Status != 0,
			ElapsedMS: inMilliseconds(a.Took), Retried: a.Retried, Reason: a.Reason,
		}
		if err := a.Err; err != nil {
			r.Code, r.Error, r.Phase, r.Sent, r.Responded = err.Code, err.Message, err.Phase, err.Sent, err.Responded
		}
		records[i] = r
	}
	return encode(records)
}

// encode asserts at run time what the generator is yet to write when it compiles this package.
func encode(value any) []byte {
	encoded, _ := easyjson.Marshal(value.(easyjson.Marshaler)) // cannot fail: there are no marshallers of our own
	return encoded
}

func decode(data []byte, into any) error {
	return easyjson.Unmarshal(data, into.(easyjson.Unmarshaler))
}

func inMilliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Control carries out an operation by its name, with its argument and its result in JSON: status, next, probe, reset,
// changes, add, remove, weight, drain. It waits for probe and changes only, until ctx ends.
func (p *Pool) Control(ctx context.Context, operation string, argument []byte) ([]byte, *Error) {
	var given order
	if len(argument) > 0 {
		if err := decode(argument, &given); err != nil {
			return nil, &Error{Code: CodeInternal, Message: "the argument of " + operation + " cannot be read: " + err.Error()}
		}
	}
	if p.closed.Load() {
		return nil, closedError()
	}
	var answer any = result{}
	var err error
	switch operation {
	case "status":
		answer = p.Snapshot()
	case "next":
		target, failure := p.NextTarget(given.Key)
		if failure != nil {
			return nil, failure
		}
		answer = result{Target: target}
	case "probe":
		if err = p.Probe(ctx); err == nil {
			answer = p.Snapshot()
		}
	case "reset":
		err = p.ResetBreakers(given.Target)
	case "changes":
		answer, err = p.recordChanges(ctx, given.Since)
	case "add":
		var number int
		number, err = p.AddTarget(given.Target, given.Weight, given.Backup, given.Number)
		answer = result{Number: number}
	case "remove":
		err = p.RemoveTarget(given.Target)
	case "weight":
		err = p.SetWeight(given.Target, given.Weight)
	case "drain":
		err = p.Drain(given.Target, given.Draining)
	default:
		return nil, &Error{Code: CodeInternal, Message: "unknown operation " + quote(operation)}
	}
	if err != nil {
		return nil, controlError(err)
	}
	return encode(answer), nil
}

func (p *Pool) recordChanges(ctx context.Context, since uint64) (result, error) {
	changes, last, err := p.Changes(ctx, since)
	answer := result{Last: last}
	for _, c := range changes {
		answer.Changes = append(answer.Changes, changeRecord{
			Upstream: c.Upstream, Target: c.Target, What: c.What, Before: c.Before, After: c.After, Reason: c.Reason,
			At: float64(c.At.UnixNano()) / float64(time.Second),
		})
	}
	return answer, err
}

func controlError(err error) *Error {
	var own *Error
	var config *ConfigError
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &config):
		return &Error{Code: CodeConfiguration, Message: config.Message}
	case errors.Is(err, errPoolClosed):
		return closedError()
	case errors.Is(err, context.Canceled):
		return &Error{Code: CodeCancelled, Message: "the caller left", Err: err}
	}
	return &Error{Code: CodeInternal, Message: err.Error(), Err: err}
}
