/* fake_script.h: how the fake core answers one request. */
#ifndef FAKE_SCRIPT_H
#define FAKE_SCRIPT_H

#include <stdio.h>
#include <stdlib.h>

#include "queue.h"

#define PROMISE(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "fake core: broken promise at line %d: %s\n", __LINE__, #condition); \
            abort(); \
        } \
    } while (0)

/* The query of a request's target: `/any?status=200&body=100&after=500`. Without one: status 200 and nothing else.
 * All values are decimal numbers. */
typedef struct script {
    uint64_t code, phase, outcome, message; /* an error, its text of so many bytes that are not all UTF-8 */
    uint64_t status, lines, body;           /* so many header lines, and a body of so many bytes, all equal to its size */
    uint64_t echo;                          /* the reply's lines and body are those of the request */
    uint64_t direct;                        /* the size of a body that is given by VP_STAGE_BUFFER */
    uint64_t after;                         /* microseconds until the answer */
    uint64_t hold;                          /* no answer until a cancel, or until the pool is closed */
    uint64_t deaf;                          /* a cancel does not change the answer, it only hastens it */
    uint64_t batch;                         /* answered, last first, when so many of these have come */
    uint64_t pause;                         /* microseconds between giving the node back and waking the loop */
    uint64_t head;                          /* VP_STAGE_HEAD first, if the request has VP_FLAG_STREAM; then */
    uint64_t pieces, size, rest;            /* so many VP_STAGE_DATA of at most so many bytes, and so many with the end, */
    uint64_t gap;                           /* each after so many microseconds; the code comes after the pieces */
    uint64_t early;                         /* VP_FLAG_UPLOAD: the answer does not wait for the last piece */
    uint64_t slow;                          /* microseconds until a piece is answered */
    uint64_t stuck;                         /* pieces are not answered before the request is over */
    uint64_t tally;                         /* the reply's body is as large as all pieces together */
} script;

script script_read(const vp_span *target);
/* Reads all memory that the request lends, so that a sanitizer sees if it is gone; the result tells if it was changed. */
uint64_t script_sum(const vp_node *node);
uint64_t script_sum_body(const vp_node *node);
void script_check_fields(const vp_span *fields);
/* Fill the node's reply with what the script asks for, with the body or without. */
void script_fill_reply(const script *script, vp_node *node, int with_body);
/* Fills the first bytes of node->direct, slice by slice, as from a socket. */
void script_fill_direct(vp_node *node, uint64_t size, uint64_t value);
void script_fill_error(const script *script, vp_node *node);

#endif
