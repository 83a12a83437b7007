/* _bridge_submit.c: what is handed to the core: requests, pieces of bodies, orders, and what ends them. */
#include "_bridge_channel.h"

static int lend_text(bridge_node *entry, int index, vp_span *span, PyObject *text, const char *what) {
    if (!PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "%s is of %R; str is allowed", what, Py_TYPE(text));
        return -1;
    }
    Py_ssize_t size;
    span->data = (const uint8_t *)PyUnicode_AsUTF8AndSize(text, &size);
    if (span->data == NULL) {
        if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
            PyErr_Clear();
            PyErr_Format(PyExc_ValueError, "%s has a lone surrogate, which UTF-8 cannot write", what);
        }
        return -1;
    }
    span->size = (uint64_t)size;
    entry->lent[index] = Py_NewRef(text);
    return 0;
}

static int lend_body(bridge_node *entry, PyObject *body) {
    Py_ssize_t size;
    char *data;
    vp_span *span = &entry->node.body;
    span->data = NULL, span->size = 0;
    if (body == Py_None)
        return 0;
    if (PyUnicode_Check(body))
        return lend_text(entry, 2, span, body, "body");
    /* Only bytes never change while the core reads them. */
    entry->lent[2] = PyBytes_Check(body) ? Py_NewRef(body) : PyObject_CheckBuffer(body) ? PyBytes_FromObject(body) : NULL;
    if (entry->lent[2] == NULL) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_TypeError, "body is of %R; bytes-like, str or None is allowed", Py_TYPE(body));
        return -1;
    }
    if (PyBytes_AsStringAndSize(entry->lent[2], &data, &size) < 0)
        return -1;
    span->data = (const uint8_t *)data;
    span->size = (uint64_t)size;
    return 0;
}

static int lend_key(bridge_node *entry, PyObject *key) {
    Py_ssize_t size;
    char *data;
    entry->node.key.data = NULL, entry->node.key.size = 0;
    if (key == Py_None)
        return 0;
    if (PyBytes_AsStringAndSize(key, &data, &size) < 0)
        return -1;
    entry->lent[3] = Py_NewRef(key);
    entry->node.key.data = (const uint8_t *)data;
    entry->node.key.size = (uint64_t)size;
    return 0;
}

static channel *open_state(PyObject *self) {
    channel *state = ((channel_object *)self)->state;
    if (bridge_ready() < 0)
        return NULL;
    if (state == NULL)
        PyErr_SetString(PyExc_RuntimeError, "the channel is closed");
    return state;
}

static PyObject *hand_over_for(PyObject *self, bridge_node *entry, PyObject *future) {
    channel *state = open_state(self); /* anew: converting the arguments may have run code that closed the channel */
    if (state == NULL) {
        bridge_node_free(entry);
        return NULL;
    }
    const uint64_t token = bridge_token(entry);
    entry->future = Py_NewRef(future);
    bridge_hand_over(state, entry);
    return PyLong_FromUnsignedLongLong(token);
}

PyObject *bridge_channel_submit_method(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    if (open_state(self) == NULL)
        return NULL;
    if (count != 9)
        return PyErr_Format(PyExc_TypeError, "submit takes 9 arguments, %zd given", count);
    const uint64_t pool = PyLong_AsUnsignedLongLong(args[1]);
    const int64_t timeout = PyLong_AsLongLong(args[6]);
    const unsigned long flags = PyLong_AsUnsignedLong(args[7]);
    if (PyErr_Occurred())
        return NULL;
    bridge_node *entry = bridge_node_new();
    if (entry == NULL)
        return NULL;
    vp_node *node = &entry->node;
    node->kind = VP_KIND_REQUEST;
    node->flags = (uint32_t)flags;
    node->pool = pool;
    node->timeout_ns = timeout;
    node->submitted_ns = vp_now();
    if (lend_text(entry, 0, &node->method, args[2], "method") < 0 ||
        lend_text(entry, 1, &node->target, args[3], "path") < 0 || bridge_pack_fields(entry, args[4]) < 0 ||
        lend_body(entry, args[5]) < 0 || lend_key(entry, args[8]) < 0) {
        bridge_node_free(entry);
        return NULL;
    }
    return hand_over_for(self, entry, args[0]);
}

/* Starts a request without a body whose fields are packed already. On failure the node stays the caller's. */
int bridge_channel_submit(PyObject *self, bridge_node *entry, PyObject *future, PyObject *method, PyObject *target) {
    vp_node *node = &entry->node;
    node->kind = VP_KIND_REQUEST;
    node->timeout_ns = 0;
    node->submitted_ns = vp_now();
    if (lend_text(entry, 0, &node->method, method, "method") < 0 || lend_text(entry, 1, &node->target, target, "path") < 0 ||
        lend_body(entry, Py_None) < 0 || lend_key(entry, Py_None) < 0)
        return -1;
    channel *state = open_state(self);
    if (state == NULL)
        return -1;
    entry->future = Py_NewRef(future);
    bridge_hand_over(state, entry);
    return 0;
}

PyObject *bridge_channel_control(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    if (open_state(self) == NULL)
        return NULL;
    if (count != 4)
        return PyErr_Format(PyExc_TypeError, "control takes 4 arguments, %zd given", count);
    const uint64_t pool = PyLong_AsUnsignedLongLong(args[1]);
    if (PyErr_Occurred())
        return NULL;
    bridge_node *entry = bridge_node_new();
    if (entry == NULL)
        return NULL;
    entry->node.kind = VP_KIND_CONTROL;
    entry->node.pool = pool;
    if (lend_text(entry, 0, &entry->node.method, args[2], "operation") < 0 || lend_body(entry, args[3]) < 0) {
        bridge_node_free(entry);
        return NULL;
    }
    return hand_over_for(self, entry, args[0]);
}

PyObject *bridge_channel_measure(PyObject *self, PyObject *args) {
    PyObject *future;
    unsigned int kind;
    unsigned long long argument;
    long long timeout;
    if (open_state(self) == NULL || !PyArg_ParseTuple(args, "OIKL", &future, &kind, &argument, &timeout))
        return NULL;
    if (kind < VP_KIND_NOOP || kind > VP_KIND_BURN) {
        PyErr_SetString(PyExc_ValueError, "kind is one of 4 (noop), 5 (panic), 6 (burn)");
        return NULL;
    }
    bridge_node *entry = bridge_node_new();
    if (entry == NULL)
        return NULL;
    entry->node.kind = kind;
    entry->node.argument = argument;
    entry->node.timeout_ns = timeout;
    return hand_over_for(self, entry, future);
}

PyObject *bridge_channel_cancel(PyObject *self, PyObject *argument) {
    channel *state = ((channel_object *)self)->state;
    const uint64_t token = PyLong_AsUnsignedLongLong(argument);
    if (PyErr_Occurred())
        return NULL;
    /* In a forked child there is nothing to cancel, and an error would hide the reason for cancelling. */
    bridge_node *entry = state != NULL && !vp_forked ? bridge_node_find(token) : NULL;
    if (entry != NULL && entry->parked) {
        if (entry->node.reply_to == &state->queue) /* what another channel has parked is counted there */
            bridge_stop(state, entry);
    } else if (entry != NULL) {
        bridge_submit_cancel(state, token);
    }
    Py_RETURN_NONE;
}

PyObject *bridge_channel_read(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    channel *state = open_state(self);
    if (state == NULL)
        return NULL;
    if (count != 3)
        return PyErr_Format(PyExc_TypeError, "read takes 3 arguments, %zd given", count);
    const uint64_t token = PyLong_AsUnsignedLongLong(args[1]);
    const Py_ssize_t size = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred())
        return NULL;
    bridge_node *entry = bridge_node_find(token);
    if (entry == NULL || !entry->parked || entry->node.reply_to != &state->queue || size <= 0) {
        PyErr_SetString(PyExc_RuntimeError, "there is no response to read from");
        return NULL;
    }
    entry->direct = PyBytes_FromStringAndSize(NULL, size);
    if (entry->direct == NULL)
        return NULL;
    entry->node.direct_len = (uint64_t)size;
    entry->future = Py_NewRef(args[0]);
    bridge_unpark(state, entry);
    Py_RETURN_NONE;
}

PyObject *bridge_channel_send(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    if (open_state(self) == NULL)
        return NULL;
    if (count != 4)
        return PyErr_Format(PyExc_TypeError, "send takes 4 arguments, %zd given", count);
    const uint64_t token = PyLong_AsUnsignedLongLong(args[1]);
    const int last = PyObject_IsTrue(args[3]);
    if (PyErr_Occurred())
        return NULL;
    bridge_node *entry = bridge_node_new();
    if (entry == NULL)
        return NULL;
    entry->node.kind = VP_KIND_PIECE;
    entry->node.argument = token;
    entry->node.flags = last ? VP_FLAG_LAST : 0;
    if (lend_body(entry, args[2]) < 0) {
        bridge_node_free(entry);
        return NULL;
    }
    return hand_over_for(self, entry, args[0]);
}
