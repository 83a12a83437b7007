package h1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// Receiver takes the outcome of an exchange.
type Receiver interface {
	// Respond is called with the head of the final response and reads the body as far as it wants it. An error ends
	// the exchange with it; a body that is not read to its end costs the connection. Not called without a response.
	Respond(head *Head, body *Body) error
	// Cancelled says that the exchange was cancelled: a Respond that waits for something else than the body is to return.
	// It may come at any time before Done, on any goroutine, and must not wait.
	Cancelled()
	// Done is called once, last. By then the connection is free and the request's memory is not used any more.
	Done(err *Error)
}

// Exchange is one request and its response. The zero value with Request and Receiver set can be given to
// Transport.Start, and again once Done was called.
type Exchange struct {
	Request  Request
	Receiver Receiver
	// ID tells this use of the Exchange from earlier and later ones, so that a late Cancel cannot hit another request.
	// Not zero, and new for each Start.
	ID uint64
	// Watched makes Overdue know what the exchange waits for; it costs a look at the clock for each wait.
	Watched bool

	transport *Transport
	out       *[]byte // the request head, with the body if that is small
	rest      []byte  // the body that is not in out
	reused    bool
	responded bool
	retried   int
	err       *Error

	sending   sync.Mutex     // held while sendOn tries to send
	uploading bool           // a goroutine sends the rest; guarded by sending
	uploader  sync.WaitGroup // that goroutine
	uploaded  atomic.Bool    // the whole request is out, or the goroutine has ended
	asking    atomic.Bool    // the source is asked for its next piece
	blocked   atomic.Bool    // the upstream does not take more for now, or the source has nothing more
	stopped   atomic.Bool    // the source was stopped because the response has ended: no fault of the request
	wrote     int64          // bytes; settled once neither of the two is at work
	writeErr  error
	waits     waits

	mu         sync.Mutex // guards what Cancel needs
	current    uint64     // ID from Start to Done, else 0
	cause      error
	asked      bool // the source was being asked when the exchange was cancelled
	conn       *conn
	cancelDial context.CancelFunc

	queued     bool // in transport.waiters; guarded by transport.mu
	prev, next *Exchange
}

// smallBody is the size up to which a body is copied behind the head to go out in one system call.
const smallBody = 16 << 10

// buffers holds request heads between exchanges.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

// Arm may come before Transport.Start: from now on Cancel ends the exchange, also if Start only comes later. Start alone
// leaves a moment in which a Cancel of another goroutine is ignored.
func (ex *Exchange) Arm(t *Transport) {
	ex.mu.Lock()
	defer ex.mu.Unlock()
	if ex.current == 0 {
		ex.transport, ex.current, ex.cause, ex.asked = t, ex.ID, nil, false
	}
}

// Cancelled reports whether Cancel has ended the exchange. It is for the receiver, before Done.
func (ex *Exchange) Cancelled() bool {
	ex.mu.Lock()
	defer ex.mu.Unlock()
	return ex.cause != nil
}

// is reports whether the exchange is still the one with this ID.
func (ex *Exchange) is(id uint64) bool {
	ex.mu.Lock()
	defer ex.mu.Unlock()
	return ex.current == id
}

// prepare writes the head into a buffer, which checks the request.
func (ex *Exchange) prepare(t *Transport) *Error {
	ex.Arm(t)
	ex.reused, ex.responded, ex.retried, ex.err = false, false, 0, nil
	ex.uploading, ex.wrote, ex.writeErr = false, 0, nil
	ex.out = buffers.Get().(*[]byte)
	head, err := ex.Request.appendHead((*ex.out)[:0], t.options.Authority)
	ex.rest = ex.Request.Body
	if limit := t.options.MaxRequestBody; err == nil && limit > 0 && ex.Request.length > limit {
		return tooLarge("request", limit)
	}
	if err == nil && len(ex.rest) <= smallBody {
		head = append(head, ex.rest...)
		ex.rest = nil
	}
	*ex.out = head
	return err
}

// finish ends the exchange. Nothing of it may be touched afterwards: Done may start it anew.
func (ex *Exchange) finish() {
	if ex.attempted() {
		ex.uploader.Wait()
	}
	if cap(*ex.out) <= 2*smallBody {
		buffers.Put(ex.out)
	}
	ex.out, ex.rest = nil, nil
	if ex.Watched {
		ex.waits.reset()
	}
	ex.mu.Lock()
	ex.current = 0
	ex.mu.Unlock()
	ex.Receiver.Done(ex.err)
}

// fail ends an exchange that has no connection.
func (ex *Exchange) fail(err *Error) {
	ex.err = err
	ex.finish()
}

// Cancel ends the exchange with this ID at once, with a KindCancelled error that wraps cause. It may come at any time; a
// response that is complete by then is dropped, and an ID whose exchange is over is ignored.
func (ex *Exchange) Cancel(id uint64, cause error) {
	ex.mu.Lock()
	if ex.current != id {
		ex.mu.Unlock()
		return
	}
	if ex.cause == nil {
		ex.cause, ex.asked = cause, ex.asking.Load()
		if source := ex.Request.Source; source != nil {
			source.Stop()
		}
		ex.Receiver.Cancelled()
	}
	if ex.conn != nil {
		ex.conn.interrupt()
	}
	if ex.cancelDial != nil {
		ex.cancelDial()
	}
	transport := ex.transport
	ex.mu.Unlock()
	transport.unqueue(ex, id)
}

// attach ties the exchange to a connection unless it was cancelled.
func (ex *Exchange) attach(c *conn) bool {
	ex.mu.Lock()
	defer ex.mu.Unlock()
	if ex.cause != nil {
		return false
	}
	ex.conn = c
	return true
}

// detach ends what attach began: from now on Cancel cannot touch the connection. It returns the cause if it has, and whether
// the source was being asked then.
func (ex *Exchange) detach() (cause error, asked bool) {
	ex.mu.Lock()
	defer ex.mu.Unlock()
	ex.conn = nil
	return ex.cause, ex.asked
}

func (ex *Exchange) cancelled(phase Phase) *Error {
	ex.mu.Lock()
	defer ex.mu.Unlock()
	return cancelledBy(ex.cause, phase)
}

// cancelledBy is the error of an exchange that was cancelled: the cause itself if it is one of this package's.
func cancelledBy(cause error, phase Phase) *Error {
	err := &Error{Kind: KindCancelled, Message: "cancelled", Err: cause}
	if own, ok := cause.(*Error); ok {
		*err = *own
	}
	err.Phase = phase
	return err
}

// sent notes that the whole request is out.
func (ex *Exchange) sent() {
	if ex.Watched && ex.transport.options.FirstByteTimeout > 0 {
		ex.waits.begin(waitHead)
	}
}

// receive reads the response and gives the verdict: whether the connection can carry another exchange. It runs on the
// goroutine of the connection.
func (ex *Exchange) receive(c *conn) (keep bool) {
	phase := PhaseHead
	err := ex.readHead(c)
	if err == nil {
		phase = PhaseBody
		if failure := ex.Receiver.Respond(&c.head, &c.body); failure != nil {
			err = receiverError(failure)
		}
	}
	complete := err == nil && c.body.done
	uploaded := ex.stopUpload(c, complete)
	cause, asked := ex.detach()
	if cause != nil {
		err = cancelledBy(cause, phase)
	}
	if err != nil {
		if phase == PhaseHead && !uploaded {
			phase = PhaseWrite
		}
		err.Phase, err.Sent, err.Reused, err.Responded = phase, ex.wrote > 0, ex.reused, ex.responded
		err.Source = asked && phase == PhaseWrite
		ex.err = err
		return false
	}
	return complete && uploaded && c.head.persistent() && !c.body.announced && !c.leftover()
}

// persistent reports whether the upstream keeps the connection open (RFC 9112 section 9.3).
func (h *Head) persistent() bool {
	return !h.close && (h.Minor == 1 || h.keepAlive)
}

// readHead reads up to the final response head, past interim ones: no Python server can forward those.
func (ex *Exchange) readHead(c *conn) *Error {
	if c.readErr != nil { // the wait for the response ended with it
		err := c.readErr
		return c.readError(err, PhaseHead)
	}
	for interim := 0; ; interim++ {
		if interim > maxInterim {
			return protocolError("more than %d interim responses", maxInterim)
		}
		size, err := c.readHeadBlock(ex)
		if err != nil {
			return err
		}
		if c.parser.head.Status < 200 {
			c.take(size)
			continue
		}
		block := c.take(size)
		c.fields = c.parser.pack(c.fields[:0], block, ex.Request.Gateway)
		c.head = c.parser.head
		c.head.Fields = c.fields
		return c.body.reset(c, ex)
	}
}

// readHeadBlock reads until the parser has a whole head.
func (c *conn) readHeadBlock(ex *Exchange) (int, *Error) {
	c.parser.reset(ex.transport.options.MaxHeadBytes, ex.transport.options.MaxHeadFields)
	for {
		if c.buffered() > 0 {
			if !ex.responded {
				ex.responded = true
				if ex.Watched {
					ex.waits[waitHead].Store(answered)
				}
			}
			if size, err := c.parser.feed(c.pending()); size > 0 || err != nil {
				return size, err
			}
		}
		if err := c.fill(c.buffered() + 1); err != nil {
			if c.buffered() > 0 && errors.Is(err, io.EOF) {
				return 0, &Error{Kind: KindClosed, Message: "the upstream closed the connection inside the response head"}
			}
			return 0, c.readError(err, PhaseHead)
		}
	}
}

// endOn ends an exchange whose connection has ended. If a connection that had been idle ended before it took anything of
// the request, another one takes its place and the caller does not notice; no upstream has seen any of it. The same
// happens to a request that may be sent again: its bytes met the close of the upstream on the way.
func (ex *Exchange) endOn(c *conn) {
	t := ex.transport
	if ex.err.met(ex) && ex.retried < maxStale {
		ex.retried++
		ex.err = nil
		if ex.Watched {
			ex.waits.reset()
		}
		t.drop(c)
		t.dispatch(ex)
		return
	}
	t.drop(c)
	t.freeSlot()
	ex.finish()
}

// met reports whether the exchange met the end of an idle connection, so that it may go on with another one.
func (e *Error) met(ex *Exchange) bool {
	if e == nil || e.Kind != KindClosed || !e.Reused || e.Responded {
		return false
	}
	return !e.Sent || (ex.Request.Again && ex.Request.Source == nil)
}

// maxStale bounds how often an exchange moves on from connections that turn out to be dead.
const maxStale = 3

// receiverError passes on an error of the body's and wraps one of the receiver's own.
func receiverError(failure error) *Error {
	var err *Error
	if errors.As(failure, &err) {
		return err
	}
	return &Error{Kind: KindInternal, Message: "the receiver failed", Err: failure}
}

func panicError(cause any) *Error {
	return &Error{
		Kind:    KindInternal,
		Message: fmt.Sprintf("panic in the core: %v\n%s", cause, debug.Stack()),
	}
}

// isTimeout reports whether a dial or handshake ran out of time.
func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || (errors.As(err, &timeout) && timeout.Timeout())
}
