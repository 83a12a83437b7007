package h1

import (
	"io"
	"strconv"
)

// Source yields the body of a request piece by piece, as it becomes available. One goroutine reads it.
type Source interface {
	// Next waits for the next piece; io.EOF ends the body. The piece is read until the next call of Next or Close. An
	// error of its own breaks the request off: the upstream never sees the end of the body.
	Next() ([]byte, error)
	// Stop makes a Next that waits, and every later one, return an error at once. It may be called from any goroutine
	// and never waits.
	Stop()
	// Close is called when no piece is looked at any more, more than once possibly. An exchange that has not come as far as
	// asking for a piece leaves it to its caller, who may try another upstream.
	Close()
}

// drain sends what the source yields until it ends, in the framing of the head: chunked, or Request.length bytes.
func (u *upload) drain(source Source) error {
	request := &u.ex.Request
	for {
		if u.bodySize == request.length {
			u.finished() // what is left is to see that the source ends as well
		}
		u.ex.asking.Store(true)
		u.ex.blocked.Store(true) // by the caller, who is not waited for once the response is complete
		piece, err := source.Next()
		u.ex.blocked.Store(false)
		u.ex.asking.Store(false)
		switch {
		case err == io.EOF:
			return u.end()
		case err != nil:
			return &Error{Kind: KindCancelled, Message: "the request body was broken off", Err: err}
		}
		if err := u.account(int64(len(piece))); err != nil {
			return err
		}
		if err := u.piece(piece); err != nil {
			return err
		}
	}
}

// account checks a piece against what was promised and allowed before any of it is sent.
func (u *upload) account(size int64) error {
	request, limit := &u.ex.Request, u.ex.transport.options.MaxRequestBody
	u.bodySize += size
	if limit > 0 && u.bodySize > limit {
		return tooLarge("request", limit)
	}
	if request.length >= 0 && u.bodySize > request.length {
		return &Error{
			Kind:    KindInvalidRequest,
			Message: "the request body is longer than its Content-Length of " + strconv.FormatInt(request.length, 10),
		}
	}
	return nil
}

// piece sends one piece in the framing of the head.
func (u *upload) piece(data []byte) error {
	if len(data) == 0 {
		return nil // an empty chunk would end the body
	}
	if u.ex.Request.length >= 0 {
		return u.write(data, nil, nil)
	}
	u.line = strconv.AppendUint(u.line[:0], uint64(len(data)), 16)
	u.line = append(u.line, '\r', '\n')
	return u.write(u.line, data, u.line[len(u.line)-2:])
}

// end sends the end of the body.
func (u *upload) end() error {
	if length := u.ex.Request.length; length < 0 {
		return u.write([]byte("0\r\n\r\n"), nil, nil)
	} else if u.bodySize < length {
		return &Error{
			Kind:    KindInvalidRequest,
			Message: "the request body ended after " + strconv.FormatInt(u.bodySize, 10) + " bytes, its Content-Length is " + strconv.FormatInt(length, 10),
		}
	}
	return nil
}

func tooLarge(whose string, limit int64) *Error {
	return &Error{
		Kind:    KindTooLarge,
		Message: "the " + whose + " body exceeds the limit of " + strconv.FormatInt(limit, 10) + " bytes",
	}
}
