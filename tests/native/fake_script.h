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
} script;

script script_read(const vp_span *target);
/* Reads all memory that the request lends, so that a sanitizer sees if it is gone; the result tells if it was changed. */
uint64_t script_sum(const vp_node *node);
void script_check_fields(const vp_span *fields);
/* Fill the node's reply with what the script asks for. buffered: the body goes into node->direct. */
void script_fill_reply(const script *script, vp_node *node, int buffered);
void script_fill_error(const script *script, vp_node *node);

#endif
