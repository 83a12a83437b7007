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
    LENT,    /* the bridge's for VP_STAGE_BUFFER */
    PARKED   /* the bridge's for VP_STAGE_HEAD or VP_STAGE_DATA */
} job_state;

/* What is done with the node of one slot. */
typedef struct job {
    vp_node *node;
    job_state state;
    uint32_t generation, code;
    uint64_t turn; /* raised with each entry in the heap: older entries are void */
    uint64_t pool, sum, arrived;
    int buffered;
    int headed;        /* VP_STAGE_HEAD was given */
    int upload, piece; /* a request with VP_FLAG_UPLOAD; a node of VP_KIND_PIECE */
    int incomplete;    /* of an upload: the last piece has not come */
    uint32_t late;     /* how it was ended while a worker was at it */
    uint64_t given;    /* pieces of a streamed body */
    uint64_t uploaded; /* bytes of the pieces that came */
    uint64_t owner;    /* of a piece: slot << 32 | generation of its request */
    script script;
} job;

typedef struct entry {
    uint64_t due, order, turn;
    job *job;
} entry;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ready;
static job *jobs[SLOTS];
static uint32_t slots_seen;
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

static job *job_of(uint32_t slot) {
    PROMISE(slot < SLOTS);
    if (jobs[slot] == NULL)
        jobs[slot] = calloc(1, sizeof(job));
    PROMISE(jobs[slot] != NULL);
    if (slot >= slots_seen)
        slots_seen = slot + 1;
    return jobs[slot];
}

/* With the lock: the request of a piece, NULL when it is over. */
static job *request_of(uint64_t owner) {
    job *job = job_of((uint32_t)(owner >> 32));
    return job->state != FREE && job->generation == (uint32_t)owner && !job->piece ? job : NULL;
}

/* With the lock: pieces that wait for the end of the request are refused. */
static void refuse_pieces(uint64_t owner) {
    for (uint32_t slot = 0; slot < slots_seen; slot++) {
        job *job = jobs[slot];
        if (job == NULL || job->state != WAITING || !job->piece || job->owner != owner)
            continue;
        job->code = VP_CODE_CANCELLED;
        schedule(job, 0);
    }
}

/* With the lock: the last piece of a request is on its way. */
static void complete_upload(uint64_t owner) {
    job *request = request_of(owner);
    if (request == NULL || !request->incomplete)
        return;
    request->incomplete = 0;
    if (request->state == WAITING)
        schedule(request, request->script.after ? now() + request->script.after * 1000 : 0);
}

/* The node is the bridge's in the middle of its request. */
static void lend(job *job, job_state state, uint32_t stage) {
    const uint64_t pause = job->script.pause;
    vp_node *node = job->node;
    node->stage = stage;
    pthread_mutex_lock(&lock);
    job->state = state;
    if (job->late != VP_CODE_OK)
        job->code = job->late;
    pthread_mutex_unlock(&lock);
    give_back(node, pause);
}

/* The next stage of a streamed response; 0: there is none, the request is to be completed. */
static int answer_stream(job *job) {
    const script *script = &job->script;
    vp_node *node = job->node;
    if (!(node->flags & VP_FLAG_STREAM) || !script->head || (job->code != VP_CODE_OK && job->code != script->code))
        return 0;
    if (!job->headed) {
        job->headed = 1;
        script_fill_reply(script, node, 0);
        node->elapsed_ns = (int64_t)(now() - job->arrived);
        lend(job, PARKED, VP_STAGE_HEAD);
        return 1;
    }
    PROMISE(node->direct != NULL && node->direct_len > 0);
    if (job->given == script->pieces)
        return 0;
    node->direct_len = script->size < node->direct_len ? script->size : node->direct_len;
    script_fill_direct(node, node->direct_len, job->given++);
    lend(job, PARKED, VP_STAGE_DATA);
    return 1;
}

/* The body of a reply that is complete, in the memory of the bridge's. */
static void fill_end(job *job) {
    vp_node *node = job->node;
    if (job->buffered) {
        script_fill_direct(node, node->direct_len, node->direct_len);
    } else if (job->headed) {
        node->direct_len = job->script.rest < node->direct_len ? job->script.rest : node->direct_len;
        script_fill_direct(node, node->direct_len, job->given);
    }
}

/* The job is BUSY: it is this thread's alone, without the lock. */
static void answer(job *job) {
    vp_node *node = job->node;
    /* Only requests and pieces lend memory. */
    PROMISE(job->sum == 0 || (job->piece ? script_sum_body(node) : script_sum(node)) == job->sum);
    if (answer_stream(job))
        return;
    if (job->code == VP_CODE_OK && job->script.direct && !job->buffered) {
        node->direct_len = job->script.direct;
        lend(job, LENT, VP_STAGE_BUFFER);
        return;
    }
    const uint64_t pause = job->script.pause, self = (uint64_t)node->slot << 32 | node->generation;
    const int upload = job->upload;
    node->code = job->code;
    node->phase = (uint32_t)job->script.phase;
    node->outcome = (uint32_t)job->script.outcome;
    node->elapsed_ns = (int64_t)(now() - job->arrived);
    node->stage = VP_STAGE_DONE;
    if (node->code == VP_CODE_OK) {
        if (job->script.tally)
            job->script.body = job->uploaded;
        script_fill_reply(&job->script, node, !job->buffered && !job->headed);
        fill_end(job);
    } else {
        script_fill_error(&job->script, node);
    }
    pthread_mutex_lock(&lock);
    job->state = FREE;
    if (upload)
        refuse_pieces(self);
    else if (job->piece && node->flags & VP_FLAG_LAST)
        complete_upload(job->owner);
    pthread_mutex_unlock(&lock);
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

static void end_early(job *job, uint32_t code) {
    if (!job->script.deaf)
        *(job->state == BUSY ? &job->late : &job->code) = code; /* too late, unless the request is about to be parked */
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
    job->buffered = job->headed = job->piece = 0;
    job->late = VP_CODE_OK;
    job->upload = (node->flags & VP_FLAG_UPLOAD) != 0;
    job->given = job->uploaded = 0;
    job->script = script_read(&node->target);
    job->incomplete = job->upload && !job->script.early;
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
    } else if (job->incomplete) {
        job->turn++;
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

static void accept_piece(vp_node *node, uint64_t arrived) {
    job *job = job_of(node->slot), *request = request_of(node->argument);
    PROMISE(job->state == FREE && node->generation != 0 && node->generation != job->generation);
    *job = (struct job){.node = node, .state = WAITING, .turn = job->turn, .arrived = arrived, .pool = UINT64_MAX};
    job->generation = node->generation;
    job->piece = 1;
    job->owner = node->argument;
    job->sum = script_sum_body(node);
    if (request == NULL || !request->upload) {
        job->code = VP_CODE_CANCELLED;
        schedule(job, 0);
        return;
    }
    request->uploaded += node->body.size;
    if (request->script.stuck)
        job->turn++;
    else
        schedule(job, request->script.slow ? arrived + request->script.slow * 1000 : 0);
}

static void accept_buffer(vp_node *node) {
    job *job = job_of(node->slot);
    PROMISE(job->node == node && job->generation == node->generation);
    if (job->state == PARKED) {
        PROMISE(node->direct == NULL || node->direct_len > 0);
        if (node->direct == NULL && (job->code == VP_CODE_OK || job->code == job->script.code))
            job->code = VP_CODE_CANCELLED;
        job->state = WAITING;
        schedule(job, job->script.gap ? now() + job->script.gap * 1000 : 0);
        return;
    }
    PROMISE(job->state == LENT && node->direct_len == job->script.direct);
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
    case VP_KIND_PIECE:
        accept_piece(node, arrived);
        break;
    case VP_KIND_CANCEL: {
        job *job = job_of((uint32_t)(node->argument >> 32));
        if (job->state != FREE && job->generation == (uint32_t)node->argument && !job->piece)
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
