/* _bridge_reply.c: what the core answered, as Python objects in a future. */
#include "_bridge.h"

static PyObject *str_set_result, *str_done;

int bridge_resolve_init(void) {
    if (str_set_result == NULL)
        str_set_result = PyUnicode_InternFromString("set_result");
    if (str_done == NULL)
        str_done = PyUnicode_InternFromString("done");
    return str_set_result != NULL && str_done != NULL ? 0 : -1;
}

#define MOST_ITEMS 8

/* Steals its items, of which some may be NULL. Py_BuildValue would parse a format for every reply. */
static PyObject *pack(PyObject *const *items, int count) {
    PyObject *tuple = PyTuple_New(count);
    for (int i = 0; i < count; i++) {
        if (items[i] == NULL)
            Py_CLEAR(tuple);
        else if (tuple == NULL)
            Py_DECREF(items[i]);
        else
            (void)PyTuple_SetItem(tuple, i, items[i]); /* cannot fail: the tuple is new */
    }
    return tuple;
}

static PyObject *attempts_of(const vp_node *node) {
    if (node->attempts_size == 0)
        return Py_NewRef(Py_None);
    return PyBytes_FromStringAndSize((const char *)node->reply + node->fields_size, (Py_ssize_t)node->attempts_size);
}

static PyObject *failure_of(const vp_node *node) {
    PyObject *items[MOST_ITEMS] = {
        PyLong_FromUnsignedLong(node->code),
        PyLong_FromUnsignedLong(node->phase),
        PyLong_FromUnsignedLong(node->outcome),
        PyUnicode_DecodeUTF8(node->fields_size ? (const char *)node->reply : "", (Py_ssize_t)node->fields_size, "replace"),
        PyLong_FromLongLong(node->elapsed_ns),
        PyLong_FromLong(node->upstream),
        attempts_of(node),
        PyLong_FromLongLong(node->retry_after_ns),
    };
    return pack(items, 8);
}

/* The memory that the core filled, cut to what it holds. A bytes object that nobody has seen yet may still be made
 * shorter where it is, as long as that does not waste much of it; a much shorter one is a copy. */
static PyObject *take_direct(bridge_node *entry) {
    PyObject *data = entry->direct;
    const uint64_t filled = entry->node.direct_len;
    entry->direct = NULL;
    if (data == NULL)
        return PyBytes_FromStringAndSize(NULL, 0);
    const uint64_t size = (uint64_t)PyBytes_Size(data);
    if (filled == size)
        return data;
    char *start = PyBytes_AsString(data);
    if (filled >= size / 2) {
        Py_SET_SIZE((PyVarObject *)data, (Py_ssize_t)filled);
        start[filled] = 0;
        return data;
    }
    PyObject *shorter = PyBytes_FromStringAndSize(start, (Py_ssize_t)filled);
    Py_DECREF(data);
    return shorter;
}

/* A whole reply or the head of a stream: (0, status, fields, body or None, elapsed_ns, upstream, attempts or None). The body
 * of a stream: bytes, and with its end (0, bytes, elapsed_ns). A failure: (code, phase, outcome, message, elapsed_ns, upstream,
 * attempts or None, retry_after_ns). */
PyObject *bridge_reply_of(bridge_node *entry) {
    const vp_node *node = &entry->node;
    if (node->stage == VP_STAGE_DATA)
        return take_direct(entry);
    if (node->stage == VP_STAGE_DONE && node->code != VP_CODE_OK)
        return failure_of(node);
    if (node->stage == VP_STAGE_DONE && entry->streaming) {
        PyObject *rest = take_direct(entry);
        return rest == NULL ? NULL : Py_BuildValue("(INL)", VP_CODE_OK, rest, node->elapsed_ns);
    }
    const uint64_t before = (uint64_t)node->fields_size + node->attempts_size;
    PyObject *body;
    if (node->stage == VP_STAGE_HEAD)
        body = Py_NewRef(Py_None);
    else if (entry->direct != NULL)
        body = take_direct(entry);
    else
        body = PyBytes_FromStringAndSize((const char *)node->reply + before, (Py_ssize_t)(node->reply_size - before));
    PyObject *items[MOST_ITEMS] = {
        PyLong_FromLong(VP_CODE_OK),
        PyLong_FromUnsignedLong(node->status),
        PyBytes_FromStringAndSize((const char *)node->reply, (Py_ssize_t)node->fields_size),
        body,
        PyLong_FromLongLong(node->elapsed_ns),
        PyLong_FromLong(node->upstream),
        attempts_of(node),
    };
    return pack(items, 7);
}

int bridge_is_done(PyObject *future) {
    PyObject *done = PyObject_CallMethodObjArgs(future, str_done, NULL);
    const int result = done != NULL && PyObject_IsTrue(done) > 0;
    Py_XDECREF(done);
    PyErr_Clear();
    return result;
}

PyObject *bridge_set_result(PyObject *future, PyObject *value) {
    return PyObject_CallMethodObjArgs(future, str_set_result, value, NULL);
}

/* Ends a future with the error that is set, e.g. no memory for its reply: nobody else would, and its caller waits. */
static void fail(PyObject *future) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback); /* it may be a class and a text, or no more than a class */
    if (traceback != NULL)
        PyException_SetTraceback(value, traceback);
    PyObject *told = PyObject_CallMethod(future, "set_exception", "O", value);
    if (told == NULL) {
        PyErr_Clear();
        told = PyObject_CallMethod(future, "cancel", NULL);
        PyErr_Clear();
    }
    Py_XDECREF(told);
    PyErr_Restore(type, value, traceback);
    PyErr_WriteUnraisable(future);
}

/* Resolves the future of a node. 0: it was cancelled meanwhile and keeps its state. */
int bridge_resolve(bridge_node *entry) {
    PyObject *future = entry->future;
    entry->future = NULL;
    PyObject *reply = bridge_reply_of(entry);
    PyObject *result = reply != NULL ? bridge_set_result(future, reply) : NULL;
    const int taken = result != NULL;
    if (result == NULL) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        const int ended = bridge_is_done(future);
        PyErr_Restore(type, value, traceback);
        if (ended)
            PyErr_Clear();
        else
            fail(future);
    }
    Py_XDECREF(result);
    Py_XDECREF(reply);
    Py_DECREF(future);
    return taken;
}
