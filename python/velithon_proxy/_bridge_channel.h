/* _bridge_channel.h: what the two halves of a channel share: _bridge_submit.c hands nodes over, _bridge_channel.c takes them back. */
#ifndef VP_BRIDGE_CHANNEL_H
#define VP_BRIDGE_CHANNEL_H

#include "_bridge.h"

typedef struct channel_object {
    PyObject_HEAD
    channel *state; /* NULL once closed */
} channel_object;

/* _bridge_channel.c */
void bridge_hand_over(channel *state, bridge_node *entry);
void bridge_submit_cancel(channel *state, uint64_t token);
void bridge_unpark(channel *state, bridge_node *entry);
void bridge_stop(channel *state, bridge_node *entry);

/* _bridge_submit.c: the methods of a channel that begin something or go on with it */
PyObject *bridge_channel_submit_method(PyObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *bridge_channel_control(PyObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *bridge_channel_measure(PyObject *self, PyObject *args);
PyObject *bridge_channel_cancel(PyObject *self, PyObject *argument);
PyObject *bridge_channel_read(PyObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *bridge_channel_send(PyObject *self, PyObject *const *args, Py_ssize_t count);

#endif
