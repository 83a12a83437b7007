/* _bridge_fields.c: header lines between Python objects and their packed form (abi.h). Whether a line may be sent is the
 * core's to say; here only kinds and the encoding are checked. */
#include "_bridge.h"

/* Bytes of a str or bytes object; *owner is set if the object had to be converted. Latin-1 (RFC 9110 section 5.5). */
static int text_of(PyObject *object, const char **data, Py_ssize_t *size, PyObject **owner, PyObject *name) {
    *owner = NULL;
    if (PyBytes_Check(object))
        return PyBytes_AsStringAndSize(object, (char **)data, size);
    if (!PyUnicode_Check(object)) {
        PyObject *kind = (PyObject *)Py_TYPE(object);
        if (name == NULL)
            PyErr_Format(PyExc_TypeError, "header name %R is of %R; str or bytes is allowed", object, kind);
        else
            PyErr_Format(PyExc_TypeError, "value of header %R is of %R; str or bytes is allowed", name, kind);
        return -1;
    }
    *data = PyUnicode_AsUTF8AndSize(object, size);
    if (*data != NULL && *size == PyUnicode_GetLength(object))
        return 0; /* ASCII: its UTF-8 form is part of the object */
    PyErr_Clear();
    *owner = PyUnicode_AsLatin1String(object);
    if (*owner != NULL)
        return PyBytes_AsStringAndSize(*owner, (char **)data, size);
    PyErr_Clear();
    PyObject *text = name == NULL
        ? PyUnicode_FromFormat("header name %A has a character above U+00FF; a name is ASCII", object)
        : PyUnicode_FromFormat("value of header %A has a character above U+00FF; encode it to bytes", name);
    if (text != NULL) {
        const char *utf8 = PyUnicode_AsUTF8AndSize(text, size);
        if (utf8 != NULL)
            bridge_raise("InvalidHeaderError", utf8, *size);
        Py_DECREF(text);
    }
    return -1;
}

/* Room for so many bytes behind the first used ones. */
static uint8_t *room_for(bridge_node *entry, size_t used, size_t size) {
    const size_t need = used + size;
    if (need > entry->packed_cap) {
        size_t cap = need < 512 ? 512 : need + need / 2;
        uint8_t *grown = realloc(entry->packed, cap);
        if (grown == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        entry->packed = grown, entry->packed_cap = cap;
    }
    return entry->packed + used;
}

static int append_line(bridge_node *entry, size_t *used, PyObject *name, PyObject *value) {
    const char *names, *values;
    Py_ssize_t name_size, value_size;
    PyObject *name_owner, *value_owner = NULL;
    int result = -1;
    if (text_of(name, &names, &name_size, &name_owner, NULL) < 0)
        return -1;
    if (text_of(value, &values, &value_size, &value_owner, name) < 0)
        goto done;
    if ((uint64_t)name_size > UINT32_MAX || (uint64_t)value_size > UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "a header line is larger than 4 GiB");
        goto done;
    }
    const size_t need = 8 + (size_t)name_size + (size_t)value_size;
    uint8_t *end = room_for(entry, *used, need);
    if (end == NULL)
        goto done;
    const uint32_t sizes[2] = {(uint32_t)name_size, (uint32_t)value_size};
    memcpy(end, sizes, 8);
    memcpy(end + 8, names, (size_t)name_size);
    memcpy(end + 8 + name_size, values, (size_t)value_size);
    *used += need;
    result = 0;
done:
    Py_XDECREF(name_owner);
    Py_XDECREF(value_owner);
    return result;
}

static int append_pair(bridge_node *entry, size_t *used, PyObject *pair) {
    if (PyTuple_Check(pair) && PyTuple_Size(pair) == 2)
        return append_line(entry, used, PyTuple_GetItem(pair, 0), PyTuple_GetItem(pair, 1));
    if (PyList_Check(pair) && PyList_Size(pair) == 2)
        return append_line(entry, used, PyList_GetItem(pair, 0), PyList_GetItem(pair, 1));
    /* Not the pair itself: it may hold a secret. */
    PyErr_Format(PyExc_TypeError, "headers holds an element of %R; a (name, value) pair is allowed", Py_TYPE(pair));
    return -1;
}

int bridge_pack_fields(bridge_node *entry, PyObject *headers) {
    size_t used = 0;
    if (headers == Py_None) {
    } else if (PyBytes_Check(headers)) {
        entry->header = Py_NewRef(headers);
        entry->node.fields.data = (const uint8_t *)PyBytes_AsString(headers);
        entry->node.fields.size = (uint64_t)PyBytes_Size(headers);
        return 0;
    } else if (PyDict_Check(headers)) {
        PyObject *name, *value;
        Py_ssize_t at = 0;
        while (PyDict_Next(headers, &at, &name, &value))
            if (append_line(entry, &used, name, value) < 0)
                return -1;
    } else if (PyList_Check(headers)) {
        for (Py_ssize_t i = 0; i < PyList_Size(headers); i++)
            if (append_pair(entry, &used, PyList_GetItem(headers, i)) < 0)
                return -1;
    } else if (PyTuple_Check(headers)) {
        for (Py_ssize_t i = 0; i < PyTuple_Size(headers); i++)
            if (append_pair(entry, &used, PyTuple_GetItem(headers, i)) < 0)
                return -1;
    } else {
        PyErr_Format(PyExc_TypeError, "headers is of %R; a mapping or (name, value) pairs are allowed", Py_TYPE(headers));
        return -1;
    }
    entry->node.fields.data = entry->packed;
    entry->node.fields.size = used;
    return 0;
}

/* Appends lines that are packed already to those that were packed from a list. */
int bridge_pack_more(bridge_node *entry, PyObject *packed) {
    const size_t used = (size_t)entry->node.fields.size, size = (size_t)PyBytes_Size(packed);
    uint8_t *end = room_for(entry, used, size);
    if (end == NULL)
        return -1;
    memcpy(end, PyBytes_AsString(packed), size);
    entry->node.fields.data = entry->packed;
    entry->node.fields.size = used + size;
    return 0;
}

static PyObject *as_latin1(const char *data, Py_ssize_t size) { return PyUnicode_DecodeLatin1(data, size, NULL); }

typedef PyObject *maker(const char *, Py_ssize_t);

static PyObject *unpack_from(const char *data, Py_ssize_t size, maker *make_name, maker *make_value) {
    PyObject *lines = PyList_New(0);
    while (lines != NULL && size > 0) {
        uint32_t sizes[2];
        if (size >= 8)
            memcpy(sizes, data, 8);
        if (size < 8 || (uint64_t)sizes[0] + sizes[1] > (uint64_t)(size - 8)) {
            PyErr_SetString(PyExc_ValueError, "packed header lines are cut short");
            Py_CLEAR(lines);
            break;
        }
        PyObject *name = make_name(data + 8, sizes[0]), *value = make_value(data + 8 + sizes[0], sizes[1]);
        PyObject *line = name != NULL && value != NULL ? PyTuple_Pack(2, name, value) : NULL;
        Py_XDECREF(name);
        Py_XDECREF(value);
        if (line == NULL || PyList_Append(lines, line) < 0)
            Py_CLEAR(lines);
        Py_XDECREF(line);
        const Py_ssize_t used = 8 + (Py_ssize_t)sizes[0] + (Py_ssize_t)sizes[1];
        data += used, size -= used;
    }
    return lines;
}

static PyObject *unpack(PyObject *packed, maker *make_name, maker *make_value) {
    char *data;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(packed, &data, &size) < 0)
        return NULL;
    return unpack_from(data, size, make_name, make_value);
}

/* Packed header lines and a tail as text, if all of them are ASCII; else NULL without an exception. */
PyObject *bridge_ascii_fields(const char *packed, Py_ssize_t size, PyObject *tail) {
    for (Py_ssize_t at = 0; at + 8 <= size;) {
        uint32_t sizes[2];
        memcpy(sizes, packed + at, 8);
        const Py_ssize_t end = at + 8 + (Py_ssize_t)sizes[0] + (Py_ssize_t)sizes[1];
        for (at += 8; at < end; at++)
            if ((unsigned char)packed[at] >= 0x80)
                return NULL;
    }
    PyObject *lines = unpack_from(packed, size, as_latin1, as_latin1);
    for (Py_ssize_t i = 0; lines != NULL && i < PyTuple_Size(tail); i++)
        if (PyList_Append(lines, PyTuple_GetItem(tail, i)) < 0)
            Py_CLEAR(lines);
    PyErr_Clear();
    return lines;
}

PyObject *bridge_unpack_fields(PyObject *module, PyObject *packed) {
    (void)module;
    return unpack(packed, as_latin1, as_latin1);
}

PyObject *bridge_unpack_fields_raw(PyObject *module, PyObject *packed) {
    (void)module;
    return unpack(packed, PyBytes_FromStringAndSize, PyBytes_FromStringAndSize);
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c; }

static PyObject *as_lower(const char *data, Py_ssize_t size) {
    const char first = size == 1 ? lower(*data) : 0;
    if (size == 1)
        return PyBytes_FromStringAndSize(&first, 1); /* CPython shares these objects: they must not be written to */
    PyObject *name = PyBytes_FromStringAndSize(data, size);
    char *bytes = name != NULL ? PyBytes_AsString(name) : NULL;
    for (Py_ssize_t i = 0; bytes != NULL && i < size; i++)
        bytes[i] = lower(bytes[i]);
    return name;
}

PyObject *bridge_unpack_fields_lower(PyObject *module, PyObject *packed) {
    (void)module;
    return unpack(packed, as_lower, PyBytes_FromStringAndSize);
}
