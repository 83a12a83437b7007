/* _bridge_channel.c: the border for one event loop, and what comes back over it. */
#include "_bridge_channel.h"

#define DRAIN_MAX 512 /* completions in one drain: a burst must not starve the rest of the loop */
#define FAST_PATH_WEIGHT 4 /* one that is answered in the drain takes as long as so many that resolve a future */

PyTypeObject *bridge_channel_type;

static channel *orphans; /* channels whose loop is gone and whose requests are not */

/* Hands a node to the core. This thread never enters Go on the way of a request: it would wait for a free processor of
 * Go's with the GIL held. */
void bridge_hand_over(channel *state, bridge_node *entry) {
    entry->node.reply_to = &state->queue;
    state->in_flight++;
    vp_in_flight++;
    vp_queue_push(vp_core.submit_queue, &entry->node);
}

void bridge_submit_cancel(channel *state, uint64_t token) {
    bridge_node *entry = bridge_node_new();
    if (entry == NULL) {
        PyErr_Clear(); /* the request runs into its deadline instead */
        return;
    }
    entry->node.kind = VP_KIND_CANCEL;
    entry->node.argument = token;
    bridge_hand_over(state, entry);
}

/* The core wants memory for a large body: a bytes object that the caller will get as it is. */
static void give_buffer(bridge_node *entry, int wanted) {
    if (wanted && entry->node.direct_len <= PY_SSIZE_T_MAX)
        entry->direct = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)entry->node.direct_len);
    if (entry->direct != NULL)
        entry->node.direct = (uint8_t *)PyBytes_AsString(entry->direct);
    else
        PyErr_Clear();
    entry->node.kind = VP_KIND_BUFFER;
    vp_queue_push(vp_core.submit_queue, &entry->node);
}

/* Gives a parked node back to the core: with memory for more of the body, or without, which ends its request. */
void bridge_unpark(channel *state, bridge_node *entry) {
    entry->parked = 0;
    entry->node.kind = VP_KIND_BUFFER;
    entry->node.direct = entry->direct != NULL ? (uint8_t *)PyBytes_AsString(entry->direct) : NULL;
    state->in_flight++;
    vp_in_flight++;
    vp_queue_push(vp_core.submit_queue, &entry->node);
}

void bridge_stop(channel *state, bridge_node *entry) {
    Py_CLEAR(entry->direct);
    bridge_unpark(state, entry);
}

static int resolve(bridge_node *entry) {
    return entry->fast_path != NULL ? bridge_fast_path_land(entry) : bridge_resolve(entry);
}

/* Takes one node back from the core. wanted: somebody still waits for the outcome. */
static void take_back(channel *state, vp_node *node, int wanted) {
    bridge_node *entry = (bridge_node *)node;
    if (node->stage == VP_STAGE_BUFFER) {
        give_buffer(entry, wanted);
        return;
    }
    state->in_flight--;
    vp_in_flight--;
    wanted = wanted && entry->future != NULL;
    if (node->stage == VP_STAGE_DONE) {
        if (wanted)
            (void)resolve(entry);
        bridge_node_free(entry);
        return;
    }
    entry->parked = entry->streaming = 1; /* before the future is resolved: what waits for it may come back at once */
    if ((!wanted || !resolve(entry)) && entry->parked)
        bridge_stop(state, entry);
}

static vp_node *next_node(channel *state) {
    if (state->left == NULL)
        state->left = vp_queue_take(&state->queue);
    vp_node *node = state->left;
    if (node != NULL)
        state->left = node->next;
    return node;
}

static PyObject *channel_drain(PyObject *self, PyObject *unused) {
    (void)unused;
    channel *state = ((channel_object *)self)->state;
    if (bridge_ready() < 0)
        return NULL;
    if (state == NULL)
        Py_RETURN_NONE;
    bridge_guard_signals();
    if (orphans != NULL) /* nobody else may come for them as long as this loop runs */
        Py_XDECREF(bridge_reap(NULL, NULL));
    vp_queue_drain_wake(&state->queue); /* before the queue is taken, or a wake-up could be lost */
    int taken = 0;
    do {
        vp_node *node;
        while ((node = next_node(state)) != NULL) {
            if (taken >= DRAIN_MAX) {
                node->next = state->left;
                state->left = node;
                vp_queue_wake(&state->queue); /* the loop comes back after the other callbacks */
                Py_RETURN_NONE;
            }
            taken += ((bridge_node *)node)->fast_path != NULL ? FAST_PATH_WEIGHT : 1;
            take_back(state, node, 1);
            if (((channel_object *)self)->state != state)
                Py_RETURN_NONE; /* a callback closed the channel */
        }
    } while (!vp_queue_sleep(&state->queue));
    Py_RETURN_NONE;
}

/* Gives up a channel: what is in flight is cancelled and taken back by reap. */
static void abandon(channel *state) {
    if (vp_forked) {
        return; /* the descriptor is shared with the parent, and the core does not run here */
    }
    for (uint64_t slot = 0;; slot++) {
        bridge_node *entry = bridge_node_at(slot);
        if (entry == NULL)
            break;
        if (!entry->busy || entry->node.reply_to != &state->queue)
            continue;
        if (entry->parked)
            bridge_stop(state, entry);
        else if (entry->future != NULL)
            bridge_submit_cancel(state, bridge_token(entry));
    }
    atomic_store(&state->queue.sleeping, 0); /* nobody will wait again: spare the wake-ups */
    state->next_orphan = orphans;
    orphans = state;
}

PyObject *bridge_reap(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    static int reaping; /* taking a node back may run finalizers, and they may come here again */
    uint64_t left = 0;
    if (!reaping && !vp_forked) {
        reaping = 1;
        channel *list = orphans;
        orphans = NULL; /* more may come meanwhile */
        while (list != NULL) {
            channel *state = list;
            vp_node *node;
            list = state->next_orphan;
            while ((node = next_node(state)) != NULL)
                take_back(state, node, 0);
            if (state->in_flight == 0 && vp_queue_quiet(&state->queue)) {
                bridge_queue_close(&state->queue);
                free(state);
            } else {
                state->next_orphan = orphans;
                orphans = state;
            }
        }
        reaping = 0;
    }
    for (channel *state = orphans; state != NULL; state = state->next_orphan)
        left += state->in_flight;
    return PyLong_FromUnsignedLongLong(left);
}

static PyObject *channel_close(PyObject *self, PyObject *unused) {
    (void)unused;
    channel *state = ((channel_object *)self)->state;
    ((channel_object *)self)->state = NULL;
    if (state != NULL)
        abandon(state);
    return bridge_reap(NULL, NULL);
}

static void channel_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject *error, *value, *traceback;
    PyErr_Fetch(&error, &value, &traceback); /* an object may go while an exception is on its way */
    PyObject *left = channel_close(self, NULL);
    if (left == NULL)
        PyErr_WriteUnraisable(NULL);
    Py_XDECREF(left);
    PyErr_Restore(error, value, traceback);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyObject *channel_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    (void)args, (void)keywords;
    if (bridge_ready() < 0)
        return NULL;
    Py_XDECREF(bridge_reap(NULL, NULL));
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    channel_object *self = (channel_object *)allocate(type, 0);
    if (self == NULL)
        return NULL;
    self->state = calloc(1, sizeof *self->state);
    if (self->state == NULL || bridge_queue_open(&self->state->queue) < 0) {
        free(self->state);
        self->state = NULL;
        PyErr_SetFromErrno(PyExc_OSError);
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    atomic_store(&self->state->queue.sleeping, 1);
    return (PyObject *)self;
}

static PyObject *channel_fileno(PyObject *self, PyObject *unused) {
    (void)unused;
    channel *state = ((channel_object *)self)->state;
    return PyLong_FromLong(state != NULL ? state->queue.wait_fd : -1);
}

static PyMethodDef channel_methods[] = {
    {"submit", (PyCFunction)(void (*)(void))bridge_channel_submit_method, METH_FASTCALL,
     "submit(future, pool, method, path, headers, body, timeout_ns, flags, key) -> int\n--\n\n"
     "Start a request; its reply becomes the result of future. Returns the token for cancel."},
    {"read", (PyCFunction)(void (*)(void))bridge_channel_read, METH_FASTCALL,
     "read(future, token, size)\n--\n\n"
     "Ask for the next at most size bytes of a streamed body: bytes become the result of future."},
    {"send", (PyCFunction)(void (*)(void))bridge_channel_send, METH_FASTCALL,
     "send(future, token, piece, last) -> int\n--\n\n"
     "Send a piece of a request body; future is resolved once it is on its way, or the request over."},
    {"cancel", bridge_channel_cancel, METH_O, "cancel(token)\n--\n\nCancel a request; one that is over is ignored."},
    {"control", (PyCFunction)(void (*)(void))bridge_channel_control, METH_FASTCALL,
     "control(future, pool, operation, argument) -> int\n--\n\n"
     "Start an operation on a pool; its reply, with the result as JSON for a body, becomes the result of future."},
    {"measure", bridge_channel_measure, METH_VARARGS,
     "measure(future, kind, argument, timeout_ns) -> int\n--\n\n"
     "Operations that test the border itself: 4 nothing, 5 panic, 6 keep argument goroutines busy for timeout_ns."},
    {"drain", channel_drain, METH_NOARGS, "drain()\n--\n\nResolve the futures of completed requests; call when fileno is readable."},
    {"fileno", channel_fileno, METH_NOARGS, "fileno() -> int\n--\n\nDescriptor that becomes readable when there is something to drain."},
    {"close", channel_close, METH_NOARGS, "close() -> int\n--\n\nCancel what is in flight and give the channel up. Idempotent."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot channel_slots[] = {
    {Py_tp_doc, "The border for one event loop. Not thread-safe: used by the thread of that loop only."},
    {Py_tp_new, channel_new},
    {Py_tp_dealloc, channel_dealloc},
    {Py_tp_methods, channel_methods},
    {0, NULL},
};

PyType_Spec bridge_channel_spec = {
    .name = "velithon_proxy._bridge.Channel",
    .basicsize = sizeof(channel_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = channel_slots,
};
