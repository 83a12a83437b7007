/* _bridge_fast_path.h: what the two halves of the fast path share: _bridge_fast_take.c takes requests, _bridge_fast_path.c gives
 * responses to the server. */
#ifndef VP_BRIDGE_FAST_PATH_H
#define VP_BRIDGE_FAST_PATH_H

#include "_bridge.h"

typedef struct fast_path {
    PyObject_HEAD
    PyObject *loop, *create_future;
    PyObject *client, *bound; /* the pool, and what binds it to the loop */
    PyObject *channel;
    PyObject *prefix, *above, *endpoint; /* str; endpoint may be None */
    PyObject *special;                   /* names of fields that mean something */
    PyObject *harmless;                  /* lines with such names that mean nothing */
    PyObject *decided;                   /* methods that somebody must decide about */
    PyObject *own_lines;                 /* (address, scheme, host) -> packed lines, or None */
    PyObject *own;                       /* what it has returned, by all three */
    PyObject *tail;                      /* lines behind those of a response */
    PyObject *copy_context;              /* contextvars.copy_context: what goes on later goes on in the request's context */
    PyObject *resume;                    /* (future, scope, protocol, context, reply, token) */
    PyObject *tick;                      /* () : call slow() after a while */
    uint64_t pool;
    unsigned long thread, flags;
    int strip, ticking;
} fast_path;

PyObject *bridge_fast_path_take(PyObject *object, PyObject *const *args, Py_ssize_t count);

#endif
