/* fake_core.c: a core without Go. It honours abi.h and nothing else, so the bridge can be run under the sanitizers of the
 * C compiler, which do not understand Go.
 *
 * Each request says in the query of its target how it is to be answered: fake_script.h.
 *
 * Four threads answer, besides the one that takes the submissions. Every promise of abi.h that the bridge makes is
 * checked here; a broken one ends the process with a message. Threads live until the process ends, as Go's do. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "fake_script.h"

#ifndef FAKE_ABI
#define FAKE_ABI VP_ABI_VERSION
#endif
#define EXPORT __attribute__((visibility("default")))
#define WORKERS 4
#define SLOTS 65536u
#define POOLS 4096u

typedef enum {
    FREE,    /* the bridge's */
    WAITING, /* for its time, a cancel, or the rest of its batch */
    BUSY,    /* being answered by a worker */
    LENT     /* the bridge's for VP_STAGE_BUFFER */
} job_state;

/* What is done with the node of one slot. */
typedef struct job {
    vp_node *node;
    job_state state;
    uint32_t generation, code;
    uint64_t turn; /* raised with each entry in the heap: older entries are void */
    uint64_t pool, sum, arrived;
    int buffered;
    script script;
} job;

typedef struct entry {
    uint64_t due, order, turn;
    job *job;
} entry;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ready;
static job *jobs[SLOTS];
static entry heap[4 * SLOTS];
static size_t heap_size;
static uint64_t order, in_flight, panics, open_pools, last_pool;
static char pool_open[POOLS];
static entry batch[SLOTS];
static size_t batch_size;

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int earlier(const entry *a, const entry *b) { return a->due != b->due ? a->due < b->due : a->order < b->order; }

/* With the lock: some worker answers the job at the time due. */
static void schedule(job *job, uint64_t due) {
    PROMISE(heap_size < sizeof heap / sizeof *heap);
    const entry added = {due, order++, ++job->turn, job};
    size_t at = heap_size++;
    for (; at > 0 && earlier(&added, &heap[(at - 1) / 2]); at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = added;
    pthread_cond_signal(&ready);
}

static entry pop(void) {
    const entry first = heap[0], last = heap[--heap_size];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < heap_size; at = child) {
        if (child + 1 < heap_size && earlier(&heap[child + 1], &heap[child]))
            child++;
        if (!earlier(&heap[child], &last))
            break;
        heap[at] = heap[child];
    }
    heap[at] = last;
    return first;
}

/* The bridge's again. As vp_queue_push, but the thread may be descheduled before it looks whether to wake the loop. */
static void give_back(vp_node *node, uint64_t pause) {
    vp_queue *queue = node->reply_to;
    vp_queue_add(queue, node);
    if (pause != 0)
        nanosleep(&(struct timespec){(time_t)(pause / 1000000), (long)(pause % 1000000) * 1000}, NULL);
    vp_queue_notify(queue);
}

static void set_state(job *job, job_state state) {
    pthread_mutex_lock(&lock);
    job->state = state;
    pthread_mutex_unlock(&lock);
}

/* The job is BUSY: it is this thread's alone, without the lock. */
static void answer(job *job) {
    vp_node *node = job->node;
    PROMISE(job->sum == 0 || script_sum(node) == job->sum); /* only requests lend memory */
    const uint64_t pause = job->script.pause;
    if (job->code == VP_CODE_OK && job->script.direct && !job->buffered) {
        node->direct_len = job->script.direct;
        node->stage = VP_STAGE_BUFFER;
        set_state(job, LENT);
        give_back(node, pause);
        return;
    }
    node->code = job->code;
    node->phase = (uint32_t)job->script.phase;
    node->outcome = (uint32_t)job->script.outcome;
    node->elapsed_ns = (int64_t)(now() - job->arrived);
    node->stage = VP_STAGE_DONE;
    if (node->code == VP_CODE_OK)
        script_fill_reply(&job->script, node, job->buffered);
    else
        script_fill_error(&job->script, node);
    set_state(job, FREE);
    give_back(node, pause);
    pthread_mutex_lock(&lock);
    in_flight--; /* not before: whoever waits for zero waits for the end of the push as well */
    pthread_mutex_unlock(&lock);
}

static void *work(void *unused) {
    (void)unused;
    pthread_mutex_lock(&lock);
    for (;;) {
        if (heap_size == 0) {
            pthread_cond_wait(&ready, &lock);
            continue;
        }
        const uint64_t due = heap[0].due;
        if (due > now()) {
            const struct timespec until = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)};
            pthread_cond_timedwait(&ready, &lock, &until);
            continue;
        }
        const entry first = pop();
        if (first.turn != first.job->turn || first.job->state != WAITING)
            continue;
        first.job->state = BUSY;
        pthread_mutex_unlock(&lock);
        answer(first.job);
        pthread_mutex_lock(&lock);
    }
    return NULL;
}

static job *job_of(uint32_t slot) {
    PROMISE(slot < SLOTS);
    if (jobs[slot] == NULL)
        jobs[slot] = calloc(1, sizeof(job));
    PROMISE(jobs[slot] != NULL);
    return jobs[slot];
}

static void end_early(job *job, uint32_t code) {
    if (job->state == BUSY)
        return; /* too late */
    if (!job->script.deaf)
        job->code = code;
    if (job->state == WAITING)
        schedule(job, 0);
}

/* With the lock: the job waits for its batch, and may complete it. */
static void join_batch(job *job) {
    size_t live = 0;
    for (size_t i = 0; i < batch_size; i++)
        if (batch[i].turn == batch[i].job->turn) /* or it was cancelled meanwhile */
            batch[live++] = batch[i];
    batch_size = live;
    batch[batch_size++] = (entry){.job = job, .turn = ++job->turn};
    if (batch_size >= job->script.batch)
        while (batch_size > 0)
            schedule(batch[--batch_size].job, 0);
}

static void accept_request(vp_node *node, uint64_t arrived) {
    job *job = job_of(node->slot);
    PROMISE(job->state == FREE && node->generation != 0 && node->generation != job->generation);
    PROMISE(node->method.size > 0 && node->target.size > 0 && node->direct == NULL);
    script_check_fields(&node->fields);
    job->node = node;
    job->state = WAITING;
    job->generation = node->generation;
    job->pool = node->pool;
    job->arrived = arrived;
    job->buffered = 0;
    job->script = script_read(&node->target);
    job->code = (uint32_t)job->script.code;
    job->sum = script_sum(node);
    if (node->pool >= POOLS || !pool_open[node->pool])
        job->code = VP_CODE_CLIENT_CLOSED;
    else if (job->script.hold) {
        job->turn++;
        return;
    } else if (job->script.batch) {
        join_batch(job);
        return;
    }
    schedule(job, job->script.after ? arrived + job->script.after * 1000 : 0);
}

/* Operations without a request: the job is the node's own slot. */
static void accept_measure(vp_node *node, uint64_t arrived) {
    job *job = job_of(node->slot);
    PROMISE(job->state == FREE);
    *job = (struct job){.node = node, .state = WAITING, .turn = job->turn, .arrived = arrived, .pool = UINT64_MAX};
    job->generation = node->generation;
    if (node->kind == VP_KIND_PANIC) {
        panics++;
        job->code = VP_CODE_INTERNAL;
        job->script.message = 30;
    }
    schedule(job, node->kind == VP_KIND_BURN ? arrived + (uint64_t)node->timeout_ns : 0);
}

static void accept_buffer(vp_node *node) {
    job *job = job_of(node->slot);
    PROMISE(job->state == LENT && job->node == node && job->generation == node->generation);
    PROMISE(node->direct_len == job->script.direct);
    job->state = WAITING;
    job->buffered = node->direct != NULL;
    if (node->direct == NULL && job->code == VP_CODE_OK)
        job->code = VP_CODE_BODY_TOO_LARGE;
    schedule(job, 0);
}

static void accept_node(vp_node *node) {
    PROMISE(node->reply_to != NULL);
    const uint64_t arrived = now();
    pthread_mutex_lock(&lock);
    if (node->kind != VP_KIND_BUFFER)
        in_flight++;
    switch (node->kind) {
    case VP_KIND_REQUEST:
        accept_request(node, arrived);
        break;
    case VP_KIND_BUFFER:
        accept_buffer(node);
        break;
    case VP_KIND_CANCEL: {
        job *job = job_of((uint32_t)(node->argument >> 32));
        if (job->state != FREE && job->generation == (uint32_t)node->argument)
            end_early(job, VP_CODE_CANCELLED);
    }
        /* fall through */
    case VP_KIND_NOOP:
    case VP_KIND_PANIC:
    case VP_KIND_BURN:
        accept_measure(node, arrived);
        break;
    default:
        PROMISE(!"a kind of node that abi.h has");
    }
    pthread_mutex_unlock(&lock);
}

static void *consume(void *argument) {
    vp_queue *queue = argument;
    for (;;) {
        for (vp_node *node = vp_queue_take(queue), *next; node != NULL; node = next) {
            next = node->next; /* the node may be answered, and used again, before accept_node returns */
            accept_node(node);
        }
        if (!vp_queue_sleep(queue))
            continue;
        struct pollfd wait = {.fd = queue->wait_fd, .events = POLLIN};
        (void)poll(&wait, 1, -1);
        vp_queue_drain_wake(queue);
    }
    return NULL;
}

static int32_t refuse(vp_error *error, uint32_t code, const char *text) {
    error->code = code;
    error->size = (uint32_t)strlen(text) < sizeof error->text ? (uint32_t)strlen(text) : (uint32_t)sizeof error->text;
    memcpy(error->text, text, error->size);
    return (int32_t)code;
}

EXPORT vp_abi_version_fn vp_abi_version;
EXPORT vp_start_fn vp_start;
EXPORT vp_pool_new_fn vp_pool_new;
EXPORT vp_pool_close_fn vp_pool_close;
EXPORT vp_pool_snapshot_fn vp_pool_snapshot;
EXPORT vp_stats_fn vp_stats;

uint32_t vp_abi_version(void) { return FAKE_ABI; }

int32_t vp_start(const vp_options *options, vp_error *error) {
    char long_text[600];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    if (options->max_procs == 99)
        return refuse(error, VP_CODE_INTERNAL, long_text);
    PROMISE(options->abi_version == FAKE_ABI && options->submit != NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&ready, &monotonic);
    pthread_t thread;
    for (int i = 0; i < WORKERS + 1; i++) {
        if (pthread_create(&thread, NULL, i == 0 ? consume : work, options->submit) != 0)
            return refuse(error, VP_CODE_INTERNAL, "no thread to be had");
        pthread_detach(thread);
    }
    return 0;
}

/* A configuration that contains the word is refused with the code. */
uint64_t vp_pool_new(const uint8_t *config, uint64_t size, vp_error *error) {
    if (memmem(config, size, "misconfigured", 13) != NULL)
        return (void)refuse(error, VP_CODE_CONFIGURATION, "the fake core was told to refuse: \xe2\x82\xac"), 0;
    if (memmem(config, size, "broken", 6) != NULL)
        return (void)refuse(error, VP_CODE_INTERNAL, "the fake core was told to fail: \xff"), 0;
    pthread_mutex_lock(&lock);
    PROMISE(last_pool + 1 < POOLS);
    pool_open[++last_pool] = 1;
    open_pools++;
    const uint64_t handle = last_pool;
    pthread_mutex_unlock(&lock);
    return handle;
}

void vp_pool_close(uint64_t pool) {
    pthread_mutex_lock(&lock);
    if (pool < POOLS && pool_open[pool]) {
        pool_open[pool] = 0;
        open_pools--;
        for (uint32_t slot = 0; slot < SLOTS; slot++)
            if (jobs[slot] != NULL && jobs[slot]->state != FREE && jobs[slot]->pool == pool)
                end_early(jobs[slot], VP_CODE_CLIENT_CLOSED);
    }
    pthread_mutex_unlock(&lock);
}

int32_t vp_pool_snapshot(uint64_t pool, uint8_t **json, uint64_t *size, vp_error *error) {
    pthread_mutex_lock(&lock);
    const int known = pool < POOLS && pool_open[pool];
    pthread_mutex_unlock(&lock);
    if (!known)
        return refuse(error, VP_CODE_CLIENT_CLOSED, "the client is closed");
    static const char text[] = "{\"target\": \"http://fake\", \"idle\": 3}";
    *json = malloc(sizeof text - 1);
    PROMISE(*json != NULL);
    memcpy(*json, text, sizeof text - 1);
    *size = sizeof text - 1;
    return 0;
}

void vp_stats(vp_counters *counters) {
    pthread_mutex_lock(&lock);
    *counters = (vp_counters){
        .pools = open_pools, .in_flight = in_flight, .goroutines = WORKERS + 1, .heap_bytes = heap_size * sizeof *heap, .panics = panics};
    pthread_mutex_unlock(&lock);
}
