/* _bridge_fast_path.c: requests about which a gateway has nothing to decide, from the server's objects to its response in
 * one call each way, without a coroutine.
 *
 * What such a request looks like is told by Python when it makes a FastPath: names of fields that mean something, lines of
 * them that mean nothing, methods, the prefix. A request that is different in any way is left to Python, which decides; so is
 * a response that is more than a head and a small body. Nothing here refuses, changes or adds anything by itself. */
#include "_bridge_fast_path.h"

static PyObject *str_response_bytes, *str_response_empty;

int bridge_fast_path_init(void) {
    if (str_response_bytes == NULL)
        str_response_bytes = PyUnicode_InternFromString("response_bytes");
    if (str_response_empty == NULL)
        str_response_empty = PyUnicode_InternFromString("response_empty");
    return str_response_bytes != NULL && str_response_empty != NULL ? 0 : -1;
}

/* Answers with a whole response. 0: it is none, or not one that every server can take; nothing was done. */
static int respond(const fast_path *self, const bridge_node *entry, PyObject *protocol, PyObject **status) {
    const vp_node *node = &entry->node;
    if (node->stage != VP_STAGE_DONE || node->code != VP_CODE_OK || entry->direct != NULL)
        return 0;
    PyObject *lines = bridge_ascii_fields((const char *)node->reply, (Py_ssize_t)node->fields_size, self->tail);
    if (lines == NULL)
        return 0;
    const uint64_t before = (uint64_t)node->fields_size + node->attempts_size;
    const Py_ssize_t size = (Py_ssize_t)(node->reply_size - before);
    PyObject *body = size > 0 ? PyBytes_FromStringAndSize((const char *)node->reply + before, size) : NULL;
    PyObject *result = NULL;
    *status = PyLong_FromUnsignedLong(node->status);
    if (*status != NULL && (body != NULL || size == 0))
        result = body != NULL ? PyObject_CallMethodObjArgs(protocol, str_response_bytes, *status, lines, body, NULL)
                              : PyObject_CallMethodObjArgs(protocol, str_response_empty, *status, lines, NULL);
    Py_XDECREF(body);
    Py_DECREF(lines);
    if (result == NULL)
        Py_CLEAR(*status);
    Py_XDECREF(result);
    return 1;
}

/* Ends the request of a node that came this way, or has Python go on with it. 0: nobody waits any more. */
int bridge_fast_path_land(bridge_node *entry) {
    fast_path *self = (fast_path *)entry->fast_path;
    PyObject *future = entry->future, *scope = entry->scope, *protocol = entry->protocol, *context = entry->context;
    PyObject *status = NULL, *result = NULL;
    entry->fast_path = entry->future = entry->scope = entry->protocol = entry->context = NULL;
    const int waiting = !bridge_is_done(future);
    if (waiting && respond(self, entry, protocol, &status)) {
        if (status != NULL) {
            result = bridge_is_done(future) ? Py_NewRef(Py_None) /* the server has cancelled who waits */
                                     : bridge_set_result(future, status);
        } else { /* the server did not take it */
            PyObject *kind, *error, *traceback;
            PyErr_Fetch(&kind, &error, &traceback);
            PyErr_NormalizeException(&kind, &error, &traceback);
            if (traceback != NULL)
                PyException_SetTraceback(error, traceback);
            result = PyObject_CallFunction(self->resume, "OOOOOi", future, scope, protocol, context, error, 0);
            Py_XDECREF(kind);
            Py_XDECREF(error);
            Py_XDECREF(traceback);
        }
    } else if (waiting) {
        const uint64_t token = bridge_token(entry);
        PyErr_Clear();
        PyObject *reply = bridge_reply_of(entry);
        if (reply != NULL)
            result = PyObject_CallFunction(self->resume, "OOOOOK", future, scope, protocol, context, reply,
                                           (unsigned long long)token);
        Py_XDECREF(reply);
    }
    const int taken = result != NULL;
    if (waiting && !taken) {
        PyErr_WriteUnraisable(future);
        result = PyObject_CallMethod(future, "cancel", NULL); /* nobody else would end it */
        PyErr_Clear();
    }
    Py_XDECREF(result);
    Py_XDECREF(status);
    Py_DECREF(future);
    Py_DECREF(scope);
    Py_DECREF(protocol);
    Py_DECREF(context);
    Py_DECREF((PyObject *)self);
    return taken;
}

static PyObject *fast_path_slow(PyObject *object, PyObject *age) {
    fast_path *self = (fast_path *)object;
    const int64_t before = vp_now() - PyLong_AsLongLong(age);
    PyObject *old = PyErr_Occurred() ? NULL : PyList_New(0);
    int young = 0;
    for (uint64_t slot = 0; old != NULL; slot++) {
        bridge_node *entry = bridge_node_at(slot);
        if (entry == NULL)
            break;
        if (!entry->busy || entry->fast_path != object || entry->noted)
            continue;
        if (entry->node.submitted_ns > before) {
            young = 1;
            continue;
        }
        const uint64_t token = bridge_token(entry);
        PyObject *flight = Py_BuildValue("OOK", entry->future, entry->protocol, (unsigned long long)token);
        if (flight == NULL || PyList_Append(old, flight) < 0)
            Py_CLEAR(old);
        Py_XDECREF(flight);
        entry->noted = 1;
    }
    self->ticking = young;
    return old == NULL ? NULL : Py_BuildValue("NO", old, young ? Py_True : Py_False);
}

static int fast_path_clear(PyObject *object);

static PyObject *fast_path_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"loop", "client", "bound", "channel", "pool", "flags", "prefix", "strip", "above", "endpoint", "special", "harmless",
                            "decided", "own_lines", "tail", "copy_context", "resume", "tick",
                            NULL};
    unsigned long long pool;
    PyObject *given[15];
    fast_path read = {0};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$OOOO!KkUpUOOOOOO!OOO:FastPath", names, &given[0], &given[1], &given[2],
                                     bridge_channel_type, &given[3], &pool, &read.flags, &given[4], &read.strip, &given[5],
                                     &given[6], &given[7], &given[8], &given[9], &given[10], &PyTuple_Type, &given[11],
                                     &given[12], &given[13], &given[14]))
        return NULL;
    if (!PyAnySet_Check(given[7]) || !PyAnySet_Check(given[8]) || !PyAnySet_Check(given[9])) {
        PyErr_SetString(PyExc_TypeError, "special, harmless and decided are sets");
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    fast_path *self = (fast_path *)allocate(type, 0);
    if (self == NULL)
        return NULL;
    PyObject **members[] = {&self->loop, &self->client, &self->bound, &self->channel, &self->prefix, &self->above,
                            &self->endpoint, &self->special, &self->harmless, &self->decided, &self->own_lines, &self->tail,
                            &self->copy_context, &self->resume, &self->tick};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        *members[i] = Py_NewRef(given[i]);
    self->pool = pool, self->flags = read.flags, self->strip = read.strip;
    self->thread = PyThread_get_thread_ident();
    self->own = PyDict_New();
    self->create_future = PyObject_GetAttrString(self->loop, "create_future");
    if (self->own == NULL || self->create_future == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

#define MEMBERS(do) \
    do(loop) do(create_future) do(client) do(bound) do(channel) do(prefix) do(above) do(endpoint) do(special) do(harmless) do(decided) \
    do(own_lines) do(own) do(tail) do(copy_context) do(resume) do(tick)

static int fast_path_traverse(PyObject *object, visitproc visit, void *arg) {
    fast_path *self = (fast_path *)object;
    Py_VISIT(Py_TYPE(object));
#define VISIT(member) Py_VISIT(self->member);
    MEMBERS(VISIT)
    return 0;
}

static int fast_path_clear(PyObject *object) {
    fast_path *self = (fast_path *)object;
#define CLEAR(member) Py_CLEAR(self->member);
    MEMBERS(CLEAR)
    return 0;
}

static void fast_path_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    (void)fast_path_clear(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static PyMethodDef fast_path_methods[] = {
    {"take", (PyCFunction)(void (*)(void))bridge_fast_path_take, METH_FASTCALL,
     "take(scope, protocol)\n--\n\n"
     "Forward a request about which nothing must be decided; a future of its status, or None: then nothing was done."},
    {"slow", fast_path_slow, METH_O,
     "slow(age_ns) -> (list, bool)\n--\n\n"
     "(future, protocol, token) of requests that have waited for so long, each once; and whether there are younger ones."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot fast_path_slots[] = {
    {Py_tp_doc, "Requests of one gateway on one event loop about which nothing must be decided."},
    {Py_tp_new, fast_path_new},
    {Py_tp_dealloc, fast_path_dealloc},
    {Py_tp_traverse, fast_path_traverse},
    {Py_tp_clear, fast_path_clear},
    {Py_tp_methods, fast_path_methods},
    {0, NULL},
};

PyType_Spec bridge_fast_path_spec = {
    .name = "velithon_proxy._bridge.FastPath",
    .basicsize = sizeof(fast_path),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = fast_path_slots,
};
