package h1

// waitList is the queue of exchanges that wait for a slot, linked through the exchanges.
type waitList struct {
	head, tail *Exchange
	size       int
}

func (l *waitList) push(ex *Exchange) {
	ex.queued, ex.prev, ex.next = true, l.tail, nil
	if l.tail == nil {
		l.head = ex
	} else {
		l.tail.next = ex
	}
	l.tail = ex
	l.size++
}

func (l *waitList) pop() *Exchange {
	ex := l.head
	if ex != nil {
		l.remove(ex)
		if ex.Watched {
			ex.waits.end(waitQueue)
		}
	}
	return ex
}

func (l *waitList) remove(ex *Exchange) {
	if ex.prev == nil {
		l.head = ex.next
	} else {
		ex.prev.next = ex.next
	}
	if ex.next == nil {
		l.tail = ex.prev
	} else {
		ex.next.prev = ex.prev
	}
	ex.queued, ex.prev, ex.next = false, nil, nil
	l.size--
}

// unqueue ends a cancelled exchange that still waits for a connection.
func (t *Transport) unqueue(ex *Exchange, id uint64) {
	t.mu.Lock()
	queued := ex.queued && ex.is(id)
	if queued {
		t.waiters.remove(ex)
	}
	t.mu.Unlock()
	if queued {
		ex.fail(ex.cancelled(PhaseQueue))
	}
}
