/* reply.h: how the core answers a node. Called from Go; never waits. */
#ifndef VP_REPLY_H
#define VP_REPLY_H

#include <stdlib.h>
#include <string.h>

#include "queue.h"

/* Copies head and body behind each other into the node's reply memory and pushes the node with VP_STAGE_DONE.
 * Without memory for it the answer is VP_CODE_BODY_TOO_LARGE. */
static inline void vp_node_answer(vp_node *node, const void *head, uint32_t head_size, const void *body,
                                  uint64_t body_size) {
    uint64_t size = (uint64_t)head_size + body_size;
    if (size > node->reply_cap) {
        uint64_t cap = size < 512 ? 512 : size;
        free(node->reply);
        node->reply = malloc(cap);
        node->reply_cap = node->reply != NULL ? cap : 0;
        if (node->reply == NULL) {
            node->code = VP_CODE_BODY_TOO_LARGE;
            head_size = 0, size = body_size = 0;
        }
    }
    if (head_size != 0)
        memcpy(node->reply, head, head_size);
    if (body_size != 0)
        memcpy(node->reply + head_size, body, body_size);
    node->fields_size = head_size;
    node->reply_size = size;
    node->stage = VP_STAGE_DONE;
    vp_queue_push(node->reply_to, node);
}

/* Asks the bridge for size bytes of memory for the body. The node comes back as VP_KIND_BUFFER. */
static inline void vp_node_ask(vp_node *node, uint64_t size) {
    node->direct_len = size;
    node->stage = VP_STAGE_BUFFER;
    vp_queue_push(node->reply_to, node);
}

#endif
