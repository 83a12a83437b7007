/* _bridge_load.c: loading the core, and what a process that hosts a Go runtime must look after: signals and forks. */
#if defined(__linux__)
#define _GNU_SOURCE
#endif
#include "_bridge.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#if defined(__linux__)
#include <sys/eventfd.h>
#endif

core_table vp_core;
uint64_t vp_in_flight;
volatile int vp_forked;

static vp_queue submit_queue;
static volatile int touched; /* the core is being loaded, or is */

/* Runs in the forked child, where only async-signal-safe things are allowed: a flag is. */
static void after_fork_in_child(void) {
    if (touched)
        vp_forked = 1;
}

int bridge_load_init(void) {
    static int registered;
    if (registered)
        return 0;
    const int failed = pthread_atfork(NULL, NULL, after_fork_in_child);
    if (failed) {
        errno = failed;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    registered = 1;
    return 0;
}

/* Raises velithon_proxy._errors.<error>(text). Always returns NULL. */
PyObject *bridge_raise(const char *error, const char *text, Py_ssize_t size) {
    PyObject *errors = PyImport_ImportModule("velithon_proxy._errors");
    PyObject *type = errors != NULL ? PyObject_GetAttrString(errors, error) : NULL;
    PyObject *message = type != NULL ? PyUnicode_DecodeUTF8(text, size, "replace") : NULL;
    if (message != NULL)
        PyErr_SetObject(type, message);
    Py_XDECREF(message);
    Py_XDECREF(type);
    Py_XDECREF(errors);
    return NULL;
}

int bridge_ready(void) {
    static const char forked[] =
        "this process was forked after velithon_proxy had been used: the Go runtime does not survive a fork. Use it only "
        "after the fork (workers do so by themselves), or start processes with spawn or forkserver";
    if (vp_forked) {
        bridge_raise("ForkedProcessError", forked, sizeof forked - 1);
        return -1;
    }
    if (!vp_core.loaded) {
        PyErr_SetString(PyExc_RuntimeError, "the core is not loaded");
        return -1;
    }
    return 0;
}

int bridge_queue_open(vp_queue *queue) {
    memset(queue, 0, sizeof *queue);
#if defined(__linux__)
    queue->wait_fd = queue->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return queue->wait_fd < 0 ? -1 : 0;
#else
    int ends[2];
    if (pipe(ends) < 0)
        return -1;
    for (int i = 0; i < 2; i++) {
        (void)fcntl(ends[i], F_SETFD, FD_CLOEXEC);
        (void)fcntl(ends[i], F_SETFL, O_NONBLOCK);
    }
    queue->wait_fd = ends[0], queue->wake_fd = ends[1];
    return 0;
#endif
}

void bridge_queue_close(vp_queue *queue) {
    (void)close(queue->wait_fd);
    if (queue->wake_fd != queue->wait_fd)
        (void)close(queue->wake_fd);
    queue->wait_fd = queue->wake_fd = -1;
}

/* A handler without SA_ONSTACK that runs on a Go thread runs on a goroutine's stack and ends the process. libuv installs
 * such a one for SIGCHLD while it has child processes. */
static void guard_signal(int number) {
    struct sigaction action;
    if (sigaction(number, NULL, &action) != 0 || (action.sa_flags & SA_ONSTACK))
        return;
    if (!(action.sa_flags & SA_SIGINFO) && (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN))
        return;
    action.sa_flags |= SA_ONSTACK;
    (void)sigaction(number, &action, NULL);
}

void bridge_guard_signals(void) {
    static unsigned turn;
    guard_signal(SIGCHLD);
    if (turn++ % 16 == 0) /* nobody installs profilers in a hurry */
        guard_signal(SIGPROF);
}

/* glibc returns the top of the heap to the kernel whenever 128 KB of it are free, and maps larger blocks anew each time:
 * every large body then costs hundreds of page faults. It raises both thresholds by itself when a large mapped block is
 * freed; this block is never touched, so it costs no memory. */
static void warm_allocator(void) {
    void *volatile block = malloc((32u << 20) - (64u << 10));
    free(block);
}

typedef struct load_request {
    const char *path;
    vp_options options;
    vp_error error;
    char message[512];
    core_table table;
} load_request;

static int resolve(void *library, load_request *request, const char *name, void *where) {
    void *symbol = dlsym(library, name);
    if (symbol == NULL) {
        snprintf(request->message, sizeof request->message, "%s has no %s: it is not the core of this version", request->path,
                 name);
        return -1;
    }
    memcpy(where, &symbol, sizeof symbol); /* ISO C has no cast from data to function pointers */
    return 0;
}

static int load_core(load_request *request) {
    vp_abi_version_fn *abi_version;
    vp_start_fn *start;
    core_table *table = &request->table;
    void *library = dlopen(request->path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        snprintf(request->message, sizeof request->message, "%s", dlerror());
        return -1;
    }
    if (resolve(library, request, "vp_abi_version", &abi_version) < 0 || resolve(library, request, "vp_start", &start) < 0 ||
        resolve(library, request, "vp_pool_new", &table->pool_new) < 0 ||
        resolve(library, request, "vp_pool_close", &table->pool_close) < 0 ||
        resolve(library, request, "vp_pool_snapshot", &table->pool_snapshot) < 0 ||
        resolve(library, request, "vp_stats", &table->stats) < 0)
        return -1;
    if (abi_version() != VP_ABI_VERSION) {
        snprintf(request->message, sizeof request->message,
                 "%s speaks ABI %u and the bridge ABI %u: reinstall velithon-proxy", request->path, abi_version(),
                 VP_ABI_VERSION);
        return -1;
    }
    if (start(&request->options, &request->error) != 0) {
        snprintf(request->message, sizeof request->message, "%.*s", (int)request->error.size, request->error.text);
        return -1;
    }
    table->loaded = 1;
    return 0;
}

PyObject *bridge_load(PyObject *module, PyObject *args) {
    (void)module;
    load_request request = {.options = {.abi_version = VP_ABI_VERSION, .submit = &submit_queue}};
    unsigned int max_procs;
    int gc_percent, failed;
    long long memory_limit;
    if (!PyArg_ParseTuple(args, "sIiL", &request.path, &max_procs, &gc_percent, &memory_limit))
        return NULL;
    if (vp_core.loaded || vp_forked)
        return bridge_ready() < 0 ? NULL : Py_NewRef(Py_None);
    if (bridge_queue_open(&submit_queue) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    touched = 1;
    request.options.max_procs = max_procs;
    request.options.gc_percent = gc_percent;
    request.options.memory_limit = memory_limit;
    Py_BEGIN_ALLOW_THREADS
    /* Threads inherit the mask: with everything blocked while Go starts, signals keep going to Python's threads. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = load_core(&request);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    Py_END_ALLOW_THREADS
    if (failed) {
        bridge_queue_close(&submit_queue);
        PyErr_Format(PyExc_ImportError, "the core of velithon_proxy cannot be loaded: %s", request.message);
        return NULL;
    }
    warm_allocator();
    vp_core = request.table;
    vp_core.submit_queue = &submit_queue;
    bridge_guard_signals();
    Py_RETURN_NONE;
}

PyObject *bridge_pool_new(PyObject *module, PyObject *config) {
    (void)module;
    char *data;
    Py_ssize_t size;
    vp_error error = {0};
    uint64_t handle;
    if (bridge_ready() < 0 || PyBytes_AsStringAndSize(config, &data, &size) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    handle = vp_core.pool_new((const uint8_t *)data, (uint64_t)size, &error);
    Py_END_ALLOW_THREADS
    if (handle == 0)
        return bridge_raise(error.code == VP_CODE_CONFIGURATION ? "ConfigurationError" : "InternalError", error.text,
                            (Py_ssize_t)error.size);
    return PyLong_FromUnsignedLongLong(handle);
}

PyObject *bridge_pool_close(PyObject *module, PyObject *handle) {
    (void)module;
    const uint64_t pool = PyLong_AsUnsignedLongLong(handle);
    if (PyErr_Occurred())
        return NULL;
    if (vp_core.loaded && !vp_forked) {
        Py_BEGIN_ALLOW_THREADS
        vp_core.pool_close(pool);
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_NONE;
}

PyObject *bridge_pool_snapshot(PyObject *module, PyObject *handle) {
    (void)module;
    vp_error error = {0};
    uint8_t *json = NULL;
    uint64_t size = 0;
    int32_t failed;
    const uint64_t pool = PyLong_AsUnsignedLongLong(handle);
    if (PyErr_Occurred() || bridge_ready() < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    failed = vp_core.pool_snapshot(pool, &json, &size, &error);
    Py_END_ALLOW_THREADS
    if (failed)
        return bridge_raise(error.code == VP_CODE_CLIENT_CLOSED ? "ClientClosedError" : "InternalError", error.text,
                            (Py_ssize_t)error.size);
    PyObject *result = PyBytes_FromStringAndSize((const char *)json, (Py_ssize_t)size);
    free(json);
    return result;
}

PyObject *bridge_stats(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    vp_counters counters = {0};
    if (bridge_ready() < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    vp_core.stats(&counters);
    Py_END_ALLOW_THREADS
    return Py_BuildValue("{s:K,s:K,s:K,s:K,s:K,s:K,s:K}", "pools", (unsigned long long)counters.pools, "core_in_flight",
                         (unsigned long long)counters.in_flight, "goroutines", (unsigned long long)counters.goroutines,
                         "heap_bytes", (unsigned long long)counters.heap_bytes, "panics",
                         (unsigned long long)counters.panics, "in_flight", (unsigned long long)vp_in_flight, "nodes",
                         (unsigned long long)bridge_node_count());
}
