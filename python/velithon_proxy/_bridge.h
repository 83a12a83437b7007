/* _bridge.h: what the parts of the bridge share. The bridge is the only native module that Python loads; it holds queues,
 * futures and the fork flag, and no policy. One interpreter, one core per process: its state is static, guarded by the
 * GIL, except for the queues, which are lock-free (queue.h). */
#ifndef VP_BRIDGE_H
#define VP_BRIDGE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue.h"

/* A node with what Python lends to it. The core sees only its first member. */
typedef struct bridge_node {
    vp_node node;
    PyObject *future;   /* NULL: nobody waits (a cancel) */
    PyObject *lent[4];  /* owners of method, target, body, and key */
    PyObject *header;   /* owner of fields if they came packed */
    PyObject *direct;   /* the bytes object that node.direct points into */
    PyObject *fast_path, *scope, *protocol, *context; /* of a request that came by a fast path, until its response is there */
    uint8_t *packed;    /* fields packed here otherwise; kept with the node */
    size_t packed_cap;
    struct bridge_node *next_free;
    int busy;
    int parked;    /* here in the middle of its request, waiting for a read or the end */
    int streaming; /* its head was delivered: what comes is body */
    int noted;     /* its fast path has told that it is slow */
} bridge_node;

/* Names one use of a node: what a cancel is for. */
static inline uint64_t bridge_token(const bridge_node *entry) {
    return (uint64_t)entry->node.slot << 32 | entry->node.generation;
}

/* The receiving half of the border for one event loop; it outlives its Python object while requests are in flight. */
typedef struct channel {
    vp_queue queue;
    vp_node *left;       /* taken from the queue and left for the next drain */
    uint64_t in_flight;
    struct channel *next_orphan;
} channel;

typedef struct core_table {
    int loaded;
    vp_queue *submit_queue;
    vp_pool_new_fn *pool_new;
    vp_pool_close_fn *pool_close;
    vp_pool_snapshot_fn *pool_snapshot;
    vp_stats_fn *stats;
} core_table;

extern core_table vp_core;      /* _bridge_load.c */
extern uint64_t vp_in_flight;   /* nodes that the core owns, of all channels */
extern volatile int vp_forked;  /* 1 in a child that was forked after the core had started */

/* _bridge_load.c */
int bridge_load_init(void);
int bridge_ready(void); /* -1 with an exception: not loaded, or forked */
int bridge_queue_open(vp_queue *queue);
void bridge_queue_close(vp_queue *queue);
void bridge_guard_signals(void);
PyObject *bridge_raise(const char *error, const char *text, Py_ssize_t size);
PyObject *bridge_load(PyObject *module, PyObject *args);
PyObject *bridge_pool_new(PyObject *module, PyObject *config);
PyObject *bridge_pool_close(PyObject *module, PyObject *handle);
PyObject *bridge_pool_snapshot(PyObject *module, PyObject *handle);
PyObject *bridge_stats(PyObject *module, PyObject *unused);

/* _bridge_nodes.c */
bridge_node *bridge_node_new(void);
void bridge_node_free(bridge_node *entry);
bridge_node *bridge_node_find(uint64_t token);
bridge_node *bridge_node_at(uint64_t slot); /* NULL past the last one */
uint64_t bridge_node_count(void);

/* _bridge_reply.c */
PyObject *bridge_reply_of(bridge_node *entry);
int bridge_is_done(PyObject *future);
PyObject *bridge_set_result(PyObject *future, PyObject *value);
int bridge_resolve(bridge_node *entry);
int bridge_resolve_init(void);

/* _bridge_fields.c */
int bridge_pack_fields(bridge_node *entry, PyObject *headers);
int bridge_pack_more(bridge_node *entry, PyObject *packed);
PyObject *bridge_ascii_fields(const char *packed, Py_ssize_t size, PyObject *tail);
PyObject *bridge_unpack_fields(PyObject *module, PyObject *packed);
PyObject *bridge_unpack_fields_raw(PyObject *module, PyObject *packed);
PyObject *bridge_unpack_fields_lower(PyObject *module, PyObject *packed);

/* _bridge_channel.c */
extern PyType_Spec bridge_channel_spec;
extern PyTypeObject *bridge_channel_type;
PyObject *bridge_reap(PyObject *module, PyObject *unused);

/* _bridge_submit.c */
int bridge_channel_submit(PyObject *self, bridge_node *entry, PyObject *future, PyObject *method, PyObject *target);

/* _bridge_fast_path.c */
extern PyType_Spec bridge_fast_path_spec;
int bridge_fast_path_init(void);
int bridge_fast_path_land(bridge_node *entry);

/* _bridge_fast_take.c */
int bridge_fast_take_init(void);

#endif
