/* _bridge_fast_take.c: recognises the requests about which a gateway has nothing to decide, and hands them to the core. */
#include "_bridge_fast_path.h"

#define MOST_OWN 1024

/* Attributes of the server's objects; interned by bridge_fast_take_init. */
static PyObject *str_path, *str_proto, *str_method, *str_http_version, *str_authority, *str_headers, *str_items, *str_client,
    *str_scheme, *str_query_string, *str_is_running, *str_bound;

int bridge_fast_take_init(void) {
    const struct {
        PyObject **name;
        const char *text;
    } names[] = {
        {&str_path, "path"}, {&str_proto, "proto"}, {&str_method, "method"}, {&str_http_version, "http_version"},
        {&str_authority, "authority"}, {&str_headers, "headers"}, {&str_items, "items"}, {&str_client, "client"},
        {&str_scheme, "scheme"}, {&str_query_string, "query_string"}, {&str_is_running, "is_running"}, {&str_bound, "_bound"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (*names[i].name == NULL && (*names[i].name = PyUnicode_InternFromString(names[i].text)) == NULL)
            return -1;
    return 0;
}

/* The ordinary way will meet it again and say what is wrong. What stops programs (KeyboardInterrupt) stays. */
static void forget(void) {
    if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_Exception))
        PyErr_Clear();
}

/* An attribute that is a str of ASCII characters; NULL without an exception if it is anything else. */
static PyObject *ascii_of(PyObject *object, PyObject *name, const char **data, Py_ssize_t *size) {
    PyObject *text = PyObject_GetAttr(object, name);
    if (text != NULL && PyUnicode_Check(text)) {
        *data = PyUnicode_AsUTF8AndSize(text, size);
        if (*data != NULL && *size == PyUnicode_GetLength(text))
            return text;
    }
    forget();
    Py_XDECREF(text);
    return NULL;
}

static int is(PyObject *object, PyObject *name, const char *wanted) {
    PyObject *text = PyObject_GetAttr(object, name);
    const int same = text != NULL && PyUnicode_Check(text) && PyUnicode_CompareWithASCIIString(text, wanted) == 0;
    forget();
    Py_XDECREF(text);
    return same;
}

static int is_none(PyObject *object, PyObject *name) {
    PyObject *value = PyObject_GetAttr(object, name);
    forget();
    Py_XDECREF(value);
    return value == Py_None;
}

/* pchar of RFC 3986 section 3.3 without the percent sign, and the slash: as in middleware/_paths.py. */
static int is_plain(const char *path, Py_ssize_t size) {
    static const char marks[] = "-._~!$&'()*+,;=:@/";
    for (Py_ssize_t i = 0; i < size; i++) {
        const char c = path[i];
        if ((c >= 'a' && c <= 'z') || (c >= '/' && c <= '9') || (c >= 'A' && c <= 'Z'))
            continue;
        if (c == 0 || strchr(marks, c) == NULL)
            return 0;
        if (c == '.' && i + 1 < size && path[i + 1] == '.')
            return 0; /* dot segments are looked at with care */
    }
    return size > 0 && path[0] == '/';
}

static int below(const fast_path *self, const char *path, Py_ssize_t size) {
    Py_ssize_t prefix_size;
    const char *prefix = PyUnicode_AsUTF8AndSize(self->prefix, &prefix_size);
    return size >= prefix_size && memcmp(path, prefix, (size_t)prefix_size) == 0 &&
           (size == prefix_size || prefix_size == 0 || path[prefix_size] == '/');
}

/* The request target; the path itself where nothing is changed. */
static PyObject *target_of(const fast_path *self, PyObject *path, PyObject *scope) {
    const char *query, *above, *rest;
    Py_ssize_t query_size, above_size, rest_size, prefix_size = 0;
    PyObject *query_string = ascii_of(scope, str_query_string, &query, &query_size), *target = NULL;
    if (query_string == NULL)
        return NULL;
    above = PyUnicode_AsUTF8AndSize(self->above, &above_size);
    rest = PyUnicode_AsUTF8AndSize(path, &rest_size);
    if (self->strip)
        (void)PyUnicode_AsUTF8AndSize(self->prefix, &prefix_size);
    if (above_size == 0 && prefix_size == 0 && query_size == 0) {
        target = Py_NewRef(path);
    } else {
        rest += prefix_size, rest_size -= prefix_size;
        if (rest_size == 0)
            rest = "/", rest_size = 1;
        target = PyUnicode_FromFormat(query_size > 0 ? "%s%s?%s" : "%s%s", above, rest, query);
        if (target != NULL && PyUnicode_GetLength(target) != above_size + rest_size + (query_size > 0) * (query_size + 1))
            Py_CLEAR(target); /* a NUL somewhere */
        forget();
    }
    Py_DECREF(query_string);
    return target;
}

/* All lines of the request if none of them needs a decision, and the host that one of them names: two references. */
static PyObject *lines_of(const fast_path *self, PyObject *scope, PyObject **host) {
    PyObject *headers = PyObject_GetAttr(scope, str_headers);
    PyObject *lines = headers != NULL ? PyObject_CallMethodObjArgs(headers, str_items, NULL) : NULL;
    int harmless = lines != NULL && PyList_Check(lines);
    *host = NULL;
    for (Py_ssize_t i = 0; harmless && i < PyList_Size(lines); i++) {
        PyObject *line = PyList_GetItem(lines, i), *name;
        Py_ssize_t size;
        const char *text;
        harmless = 0;
        if (!PyTuple_CheckExact(line) || PyTuple_Size(line) != 2)
            break;
        name = PyTuple_GetItem(line, 0); /* exactly a str: a subclass could run code that takes the line away */
        if (!PyUnicode_CheckExact(name) || !PyUnicode_CheckExact(PyTuple_GetItem(line, 1)))
            break;
        text = PyUnicode_AsUTF8AndSize(name, &size);
        if (text == NULL || memchr(text, '_', (size_t)size) != NULL)
            break;
        const int special = PySet_Contains(self->special, name);
        if (special > 0 && PyUnicode_CompareWithASCIIString(name, "host") == 0) {
            harmless = *host == NULL;
            *host = PyTuple_GetItem(line, 1);
        } else {
            harmless = special == 0 || (special > 0 && PySet_Contains(self->harmless, line) > 0);
        }
    }
    forget();
    Py_XDECREF(headers);
    if (harmless && *host != NULL) {
        Py_INCREF(*host);
        return lines;
    }
    *host = NULL;
    Py_XDECREF(lines);
    return NULL;
}

/* The gateway's own lines for a peer, packed; borrowed. */
static PyObject *own_of(fast_path *self, PyObject *scope, PyObject *host) {
    char text[256];
    const char *client, *scheme, *name;
    Py_ssize_t client_size, scheme_size, name_size;
    PyObject *client_text = ascii_of(scope, str_client, &client, &client_size);
    PyObject *scheme_text = ascii_of(scope, str_scheme, &scheme, &scheme_size);
    PyObject *key = NULL, *own = NULL;
    name = PyUnicode_AsUTF8AndSize(host, &name_size);
    if (client_text == NULL || scheme_text == NULL || name == NULL)
        goto done;
    while (client_size > 0 && client[client_size - 1] != ':') /* "address:port" */
        client_size--;
    client_size--;
    if (client_size <= 0 || client_size + scheme_size + name_size + 2 > (Py_ssize_t)sizeof text)
        goto done;
    memcpy(text, client, (size_t)client_size);
    text[client_size] = 0;
    memcpy(text + client_size + 1, scheme, (size_t)scheme_size);
    text[client_size + 1 + scheme_size] = 0;
    memcpy(text + client_size + scheme_size + 2, name, (size_t)name_size);
    key = PyBytes_FromStringAndSize(text, client_size + scheme_size + name_size + 2);
    if (key == NULL || (own = PyDict_GetItemWithError(self->own, key)) != NULL || PyErr_Occurred())
        goto done;
    PyObject *asked = PyObject_CallFunction(self->own_lines, "OOO", client_text, scheme_text, host);
    if (asked != NULL && PyBytes_Check(asked)) {
        if (PyDict_Size(self->own) >= MOST_OWN)
            PyDict_Clear(self->own);
        if (PyDict_SetItem(self->own, key, asked) == 0)
            own = PyDict_GetItemWithError(self->own, key);
    }
    Py_XDECREF(asked);
done:
    forget();
    Py_XDECREF(key);
    Py_XDECREF(client_text);
    Py_XDECREF(scheme_text);
    return own;
}

/* Whether the pool is still that of the loop, this thread is the loop's, and the loop runs. */
static int at_home(const fast_path *self) {
    if (vp_forked || self->channel == NULL || PyThread_get_thread_ident() != self->thread)
        return 0;
    PyObject *bound = PyObject_GetAttr(self->client, str_bound);
    forget();
    Py_XDECREF(bound);
    if (bound != self->bound)
        return 0;
    PyObject *running = PyObject_CallMethodObjArgs(self->loop, str_is_running, NULL);
    forget();
    Py_XDECREF(running);
    return running == Py_True;
}

static PyObject *send_on(fast_path *self, PyObject *scope, PyObject *protocol, PyObject *method, PyObject *target,
                         PyObject *lines, PyObject *own) {
    bridge_node *entry = bridge_node_new();
    if (entry == NULL)
        return NULL;
    entry->node.pool = self->pool;
    entry->node.flags = (uint32_t)self->flags;
    entry->fast_path = Py_NewRef((PyObject *)self);
    entry->scope = Py_NewRef(scope);
    entry->protocol = Py_NewRef(protocol);
    entry->context = PyObject_CallNoArgs(self->copy_context);
    PyObject *future = NULL;
    if (entry->context != NULL && bridge_pack_fields(entry, lines) == 0 && bridge_pack_more(entry, own) == 0)
        future = PyObject_CallNoArgs(self->create_future);
    if (future != NULL && bridge_channel_submit(self->channel, entry, future, method, target) == 0)
        return future;
    Py_XDECREF(future);
    bridge_node_free(entry);
    return NULL;
}

PyObject *bridge_fast_path_take(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    fast_path *self = (fast_path *)object;
    if (count != 2)
        return PyErr_Format(PyExc_TypeError, "take takes 2 arguments, %zd given", count);
    PyObject *scope = args[0], *protocol = args[1];
    PyObject *path, *method = NULL, *lines = NULL, *target = NULL, *host = NULL, *own, *future = NULL;
    const char *data;
    Py_ssize_t size;
    if (!at_home(self) || (path = ascii_of(scope, str_path, &data, &size)) == NULL)
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    if (!below(self, data, size) || !is_plain(data, size) ||
        (PyUnicode_Check(self->endpoint) && PyUnicode_Compare(path, self->endpoint) == 0) ||
        !is(scope, str_proto, "http") || !is(scope, str_http_version, "1.1") || !is_none(scope, str_authority) ||
        (method = ascii_of(scope, str_method, &data, &size)) == NULL || PySet_Contains(self->decided, method) != 0)
        goto done;
    if ((lines = lines_of(self, scope, &host)) == NULL || (own = own_of(self, scope, host)) == NULL)
        goto done;
    Py_INCREF(own);
    if ((target = target_of(self, path, scope)) != NULL)
        future = send_on(self, scope, protocol, method, target, lines, own);
    Py_DECREF(own);
    if (future != NULL && !self->ticking) {
        self->ticking = 1;
        PyObject *ticks = PyObject_CallNoArgs(self->tick);
        if (ticks == NULL) {
            PyErr_WriteUnraisable(self->tick);
            self->ticking = 0;
        }
        Py_XDECREF(ticks);
    }
done:
    forget();
    Py_DECREF(path);
    Py_XDECREF(method);
    Py_XDECREF(lines);
    Py_XDECREF(host);
    Py_XDECREF(target);
    if (future != NULL)
        return future;
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}
