/* abi.h: the written contract between the bridge (C extension) and the core (Go c-shared library).
 *
 * Who calls whom
 *   bridge -> core   requests by pushing nodes onto the submit queue (queue.h); the vp_* functions declared at the end
 *                    are rare control calls, made without the GIL.
 *   core -> bridge   never. The core answers by pushing the node onto node->reply_to (queue.h).
 *
 * Who owns what
 *   A node has one owner at a time: the bridge until the node is pushed, the core until it pushes the
 *   node onto its reply queue, then the bridge again. Each submission is answered by exactly one push with stage
 *   VP_STAGE_DONE, also when it was cancelled. Pushes with another stage may come before it: the node is then parked
 *   with the bridge, in the middle of its request, and the bridge submits it again with kind VP_KIND_BUFFER, with
 *   memory for the body or without, which ends the request. Every parked node must be submitted again.
 *   Request memory (method, target, fields, body) is borrowed: the core reads it, never writes it, and has dropped
 *   every pointer into it before it pushes VP_STAGE_DONE.
 *   reply memory (reply, reply_cap) belongs to the node: the core grows it with malloc/free, the bridge frees it.
 *   direct memory is the body of a large reply: allocated by the bridge, filled by the core.
 *
 * Text is bytes with a length, never NUL-terminated. Integers are fixed-width and native-endian.
 */
#ifndef VP_ABI_H
#define VP_ABI_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised by every change of this file that an older peer would misread. */
#define VP_ABI_VERSION 3u

/* Bodies of at least this many bytes are read from the socket straight into memory the bridge allocates. */
#define VP_DIRECT_MIN 65536u

/* What a node asks for. */
enum {
    VP_KIND_REQUEST = 1, /* forward one request */
    VP_KIND_CANCEL = 2,  /* cancel the request in (slot, generation); answered like any node */
    VP_KIND_BUFFER = 3,  /* a parked node comes back: direct and direct_len are set, or direct is NULL */
    VP_KIND_NOOP = 4,    /* answered at once: measures the border itself */
    VP_KIND_PANIC = 5,   /* the core panics: answered with VP_CODE_INTERNAL */
    VP_KIND_BURN = 6,    /* keep argument goroutines busy for timeout_ns, collecting garbage: measures interference */
    VP_KIND_CONTROL = 8, /* the operation on a pool that method names, with its argument, JSON, in body; answered with its
                            result, JSON, as the body of a reply. core/control.go has the list */
    VP_KIND_PIECE = 7    /* body is the next piece for the request in argument (as for cancel); answered once it is on its
                            way, or with VP_CODE_CANCELLED when that request is over */
};

/* How far a node is when the core pushes it back. */
enum {
    VP_STAGE_DONE = 0,  /* the reply, or the error, is complete */
    VP_STAGE_BUFFER = 1, /* the head is known; the core wants direct_len bytes of memory in direct */
    VP_STAGE_HEAD = 2,   /* VP_FLAG_STREAM: status and the header lines in reply; the body follows */
    VP_STAGE_DATA = 3    /* direct_len bytes of the body are in direct; there may be more */
};

/* Outcome of a request; core/errors.go and python/velithon_proxy/_errors.py hold the same list. */
enum {
    VP_CODE_OK = 0,
    VP_CODE_INVALID_REQUEST = 1,
    VP_CODE_INVALID_HEADER = 2,
    VP_CODE_CONNECT = 3,
    VP_CODE_TLS = 4,
    VP_CODE_CONNECT_TIMEOUT = 5,
    VP_CODE_POOL_TIMEOUT = 6,
    VP_CODE_READ_TIMEOUT = 7,
    VP_CODE_TOTAL_TIMEOUT = 8,
    VP_CODE_UPSTREAM_CLOSED = 9,
    VP_CODE_UPSTREAM_PROTOCOL = 10,
    VP_CODE_CIRCUIT_OPEN = 11,
    VP_CODE_NO_HEALTHY_TARGET = 12,
    VP_CODE_BODY_TOO_LARGE = 13,
    VP_CODE_CLIENT_CLOSED = 14,
    VP_CODE_CANCELLED = 15,
    VP_CODE_INTERNAL = 16,
    VP_CODE_POOL_EXHAUSTED = 17,
    VP_CODE_CONFIGURATION = 18
};

/* Where a request was when it failed. */
enum {
    VP_PHASE_REQUEST = 0, /* checking the request */
    VP_PHASE_QUEUE = 1,   /* waiting for a connection */
    VP_PHASE_DNS = 2,
    VP_PHASE_CONNECT = 3,
    VP_PHASE_TLS = 4,
    VP_PHASE_WRITE = 5, /* sending the request */
    VP_PHASE_HEAD = 6,  /* waiting for and reading the response head */
    VP_PHASE_BODY = 7   /* reading the response body */
};

/* node->flags, set by the bridge. */
enum {
    VP_FLAG_GATEWAY = 1u << 0,      /* forward on behalf of a client: strip hop-by-hop fields both ways */
    VP_FLAG_PRESERVE_HOST = 1u << 1, /* with VP_FLAG_GATEWAY: keep the Host field of the request */
    VP_FLAG_STREAM = 1u << 2,       /* hand the response on as it comes; see the stages */
    VP_FLAG_UPLOAD = 1u << 3,       /* the body comes in nodes of kind VP_KIND_PIECE */
    VP_FLAG_LAST = 1u << 4          /* with VP_KIND_PIECE: no piece follows this one */
};

/* node->outcome, set by the core. */
enum {
    VP_OUTCOME_SENT = 1u << 0,     /* some byte of the request was written */
    VP_OUTCOME_REUSED = 1u << 1,   /* the connection had carried a request before */
    VP_OUTCOME_RESPONDED = 1u << 2, /* some byte of the response was read */
    VP_OUTCOME_SOURCE = 1u << 3    /* the caller's next piece of the request's body was waited for */
};

typedef struct vp_span {
    const uint8_t *data;
    uint64_t size;
} vp_span;

struct vp_queue;

/* Header lines, both ways: for each line u32 name size, u32 value size, name, value; order and duplicates kept. */
typedef struct vp_node {
    struct vp_node *next; /* link of the queue the node is in */
    struct vp_queue *reply_to;

    /* set by the bridge */
    uint32_t kind;
    uint32_t flags;
    uint32_t slot;       /* index of this node among all nodes of the process; fixed for its life */
    uint32_t generation; /* raised each time the node is used anew: a late cancel cannot hit another request */
    uint64_t pool;       /* handle from vp_pool_new */
    int64_t timeout_ns;  /* deadline of the whole call, from submission; 0 means the pool's default */
    int64_t submitted_ns; /* VP_KIND_REQUEST: when it was submitted, by vp_now (queue.h) */
    uint64_t argument;   /* VP_KIND_CANCEL: slot << 32 | generation to cancel. VP_KIND_BURN: goroutines */
    vp_span method, target, fields, body;
    vp_span key; /* what the strategy consistent_hash looks at */

    /* set by the core */
    uint32_t stage;
    uint32_t code;
    uint32_t phase;
    uint32_t outcome;
    uint32_t status;      /* 100-599 with VP_CODE_OK */
    uint32_t fields_size; /* reply holds fields_size bytes of header lines, or of the message of an error; then */
    uint32_t attempts_size; /* attempts_size bytes of JSON about the attempts that were made, if there is something to */
    uint64_t reply_size;  /* tell; then the body. reply_size bytes in all. */
    uint64_t reply_cap;
    uint8_t *reply;
    int64_t elapsed_ns;
    int64_t retry_after_ns; /* of an error: when it may be worth trying again; 0: unknown */
    int32_t upstream;       /* number of the upstream that was asked last, in the order of the configuration; -1: none */

    /* memory for the body, from the bridge; then reply holds the header lines alone. With VP_STAGE_DATA and
     * VP_STAGE_DONE direct_len says how much of it was filled. */
    uint8_t *direct;
    uint64_t direct_len;
} vp_node;

typedef struct vp_options {
    uint32_t abi_version;
    uint32_t max_procs;    /* GOMAXPROCS; 0 means one less than there are CPUs, 1 or 2 */
    int32_t gc_percent;    /* GOGC; 0 means the core's default */
    int64_t memory_limit;  /* GOMEMLIMIT in bytes; 0 means none */
    struct vp_queue *submit; /* the queue the core consumes */
} vp_options;

/* Counters of the whole process. */
typedef struct vp_counters {
    uint64_t pools;      /* open pools */
    uint64_t in_flight;  /* REQUEST and CONTROL nodes that are not answered; other kinds are not counted */
    uint64_t goroutines;
    uint64_t heap_bytes; /* live Go heap */
    uint64_t panics;     /* panics recovered since the start */
} vp_counters;

/* Filled by the failing call, owned by the caller; text is cut to fit. */
typedef struct vp_error {
    uint32_t code;
    uint32_t size;
    char text[504];
} vp_error;

/* VP_ABI_VERSION of the core. Callable before vp_start. */
typedef uint32_t vp_abi_version_fn(void);
/* Starts the core, once per process. 0, or the code in *error. */
typedef int32_t vp_start_fn(const vp_options *options, vp_error *error);
/* Opens a pool from its JSON configuration (core/config.go). The handle (never 0), or 0 and *error. */
typedef uint64_t vp_pool_new_fn(const uint8_t *config, uint64_t size, vp_error *error);
/* Closes a pool: its requests end with VP_CODE_CLIENT_CLOSED. Unknown handles are ignored. */
typedef void vp_pool_close_fn(uint64_t pool);
/* State of a pool as JSON in malloc'ed memory that the caller frees. 0, or the code in *error. */
typedef int32_t vp_pool_snapshot_fn(uint64_t pool, uint8_t **json, uint64_t *size, vp_error *error);
typedef void vp_stats_fn(vp_counters *counters);

#ifdef __cplusplus
}
#endif

#endif
