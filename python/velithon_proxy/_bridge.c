/* _bridge.c: the module. Importing it starts no thread and loads no Go. */
#include "_bridge.h"

static PyMethodDef methods[] = {
    {"load", bridge_load, METH_VARARGS,
     "load(path, max_procs, gc_percent, memory_limit)\n--\n\n"
     "Load the core library and start it, once per process. The GIL is released meanwhile."},
    {"pool_new", bridge_pool_new, METH_O, "pool_new(config: bytes) -> int\n--\n\nOpen a pool from its JSON configuration."},
    {"pool_close", bridge_pool_close, METH_O,
     "pool_close(handle: int)\n--\n\nClose a pool; its requests end with ClientClosedError."},
    {"pool_snapshot", bridge_pool_snapshot, METH_O,
     "pool_snapshot(handle: int) -> bytes\n--\n\nState of a pool as JSON."},
    {"stats", bridge_stats, METH_NOARGS, "stats() -> dict[str, int]\n--\n\nCounters of the core and of the bridge."},
    {"reap", bridge_reap, METH_NOARGS,
     "reap() -> int\n--\n\nTake back requests of event loops that are gone; returns how many are still in flight."},
    {"unpack_fields", bridge_unpack_fields, METH_O,
     "unpack_fields(packed: bytes) -> list[tuple[str, str]]\n--\n\nHeader lines as Latin-1 text."},
    {"unpack_fields_raw", bridge_unpack_fields_raw, METH_O,
     "unpack_fields_raw(packed: bytes) -> list[tuple[bytes, bytes]]\n--\n\nHeader lines as bytes."},
    {"unpack_fields_lower", bridge_unpack_fields_lower, METH_O,
     "unpack_fields_lower(packed: bytes) -> list[tuple[bytes, bytes]]\n--\n\nHeader lines as bytes, names in lower case."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec) {
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    if (type != NULL && PyModule_AddType(module, type) < 0)
        Py_CLEAR(type);
    return type;
}

static int execute(PyObject *module) {
    if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0) {
        PyErr_SetString(PyExc_ImportError, "velithon_proxy works in the main interpreter only: its core exists once per process");
        return -1;
    }
    if (bridge_load_init() < 0 || bridge_resolve_init() < 0 || bridge_fast_path_init() < 0 ||
        bridge_fast_take_init() < 0)
        return -1;
    bridge_channel_type = add_type(module, &bridge_channel_spec);
    PyObject *fast_path = (PyObject *)add_type(module, &bridge_fast_path_spec);
    if (bridge_channel_type == NULL || fast_path == NULL)
        return -1;
    Py_DECREF(fast_path);
    return PyModule_AddIntConstant(module, "ABI_VERSION", VP_ABI_VERSION);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)execute}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "velithon_proxy._bridge",
    .m_doc = "The border between Python and the Go core: queues, futures and the fork flag.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__bridge(void) { return PyModuleDef_Init(&definition); }
