/* queue.h: the lock-free queue between the two sides, and its wake-up.
 *
 * Many producers push onto a Treiber stack; one consumer takes the whole stack and reverses it, which restores the
 * order of each producer. There is no lock: a producer that the kernel deschedules in the middle of a push cannot hold
 * up the other side. There is no ABA problem: nobody pops single nodes.
 *
 * A wake-up costs a system call, so it is written only when the consumer may be asleep: the consumer raises `sleeping`,
 * looks once more, and only then waits; the producer that finds the flag raised lowers it and writes. Both sides use
 * sequentially consistent operations, so at least one of them sees the other.
 */
#ifndef VP_QUEUE_H
#define VP_QUEUE_H

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include "abi.h"

/* The clock of node->submitted_ns: monotonic, and standing still while the machine sleeps, as Go's does. */
static inline int64_t vp_now(void) {
    struct timespec now;
#ifdef __APPLE__
    clock_gettime(CLOCK_UPTIME_RAW, &now);
#else
    clock_gettime(CLOCK_MONOTONIC, &now);
#endif
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

typedef struct vp_queue {
    _Atomic(vp_node *) head;
    _Atomic(uint32_t) sleeping; /* 1 while the consumer waits, or is about to, for wake_fd */
    _Atomic(uint32_t) pushing;  /* producers in the middle of a push: they still use the queue after the node is taken */
    int32_t wake_fd;            /* an eventfd, or the writing end of a pipe; non-blocking */
    int32_t wait_fd;            /* the same eventfd, or the reading end of the pipe; non-blocking */
} vp_queue;

static inline void vp_queue_wake(vp_queue *queue) {
    const uint64_t one = 1; /* an eventfd takes eight bytes; a pipe carries them as well */
    ssize_t written;
    do {
        written = write(queue->wake_fd, &one, sizeof one);
    } while (written < 0 && errno == EINTR);
    /* EAGAIN means the counter or the pipe is full: the consumer has a wake-up waiting for it already. */
}

/* The two halves of a push. Between them the consumer may have the node already, but not free the queue. */
static inline void vp_queue_add(vp_queue *queue, vp_node *node) {
    atomic_fetch_add(&queue->pushing, 1);
    vp_node *head = atomic_load_explicit(&queue->head, memory_order_relaxed);
    do {
        node->next = head;
    } while (!atomic_compare_exchange_weak(&queue->head, &head, node));
}

static inline void vp_queue_notify(vp_queue *queue) {
    if (atomic_load(&queue->sleeping) != 0 && atomic_exchange(&queue->sleeping, 0) != 0)
        vp_queue_wake(queue);
    atomic_fetch_sub(&queue->pushing, 1);
}

static inline void vp_queue_push(vp_queue *queue, vp_node *node) {
    vp_queue_add(queue, node);
    vp_queue_notify(queue);
}

/* Whether the memory and the descriptor may go, once every node has come back and none will be pushed any more. */
static inline int vp_queue_quiet(vp_queue *queue) { return atomic_load(&queue->pushing) == 0; }

/* Takes all nodes, oldest first; NULL when there are none. */
static inline vp_node *vp_queue_take(vp_queue *queue) {
    vp_node *node = atomic_exchange(&queue->head, NULL), *ordered = NULL;
    while (node != NULL) {
        vp_node *next = node->next;
        node->next = ordered;
        ordered = node;
        node = next;
    }
    return ordered;
}

/* Announces that the consumer will wait for wait_fd. 1: it may; 0: a node came in between, take again. */
static inline int vp_queue_sleep(vp_queue *queue) {
    atomic_store(&queue->sleeping, 1);
    if (atomic_load(&queue->head) == NULL)
        return 1;
    atomic_store(&queue->sleeping, 0);
    return 0;
}

/* Empties wait_fd. Edge-triggered loops need it empty before they wait again. */
static inline void vp_queue_drain_wake(vp_queue *queue) {
    uint64_t sink[8];
    ssize_t got;
    do {
        got = read(queue->wait_fd, sink, sizeof sink);
    } while (got == (ssize_t)sizeof sink || (got < 0 && errno == EINTR));
}

#endif
