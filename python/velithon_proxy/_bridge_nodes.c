/* _bridge_nodes.c: the nodes of the process. They are allocated and freed by Python threads only, kept for reuse, and
 * addressed by slot, so that the core needs no map and a late cancel cannot hit another request. */
#include "_bridge.h"

#define KEPT_REPLY 16384u /* reply memory above this goes back to malloc */

static bridge_node **table;
static uint64_t table_size, table_cap;
static bridge_node *free_nodes;

bridge_node *bridge_node_new(void) {
    bridge_node *entry = free_nodes;
    if (entry != NULL) {
        free_nodes = entry->next_free;
    } else {
        if (table_size == table_cap) {
            uint64_t cap = table_cap ? 2 * table_cap : 64;
            bridge_node **grown = realloc(table, cap * sizeof *grown);
            if (grown == NULL)
                return (bridge_node *)PyErr_NoMemory();
            table = grown, table_cap = cap;
        }
        if (table_size >= (1u << 22)) { /* as many tasks as the core can address */
            PyErr_SetString(PyExc_RuntimeError, "more than 4194304 requests in flight");
            return NULL;
        }
        entry = calloc(1, sizeof *entry);
        if (entry == NULL)
            return (bridge_node *)PyErr_NoMemory();
        entry->node.slot = (uint32_t)table_size;
        table[table_size++] = entry;
    }
    if (++entry->node.generation == 0) /* zero means none */
        entry->node.generation = 1;
    entry->busy = 1;
    return entry;
}

void bridge_node_free(bridge_node *entry) {
    Py_CLEAR(entry->future);
    for (int i = 0; i < 4; i++)
        Py_CLEAR(entry->lent[i]);
    Py_CLEAR(entry->header);
    Py_CLEAR(entry->direct);
    Py_CLEAR(entry->fast_path);
    Py_CLEAR(entry->scope);
    Py_CLEAR(entry->protocol);
    Py_CLEAR(entry->context);
    if (entry->packed_cap > KEPT_REPLY) {
        free(entry->packed);
        entry->packed = NULL, entry->packed_cap = 0;
    }
    if (entry->node.reply_cap > KEPT_REPLY) {
        free(entry->node.reply);
        entry->node.reply = NULL, entry->node.reply_cap = 0;
    }
    entry->node.direct = NULL;
    entry->busy = entry->parked = entry->streaming = entry->noted = 0;
    entry->next_free = free_nodes;
    free_nodes = entry;
}

bridge_node *bridge_node_at(uint64_t slot) { return slot < table_size ? table[slot] : NULL; }

bridge_node *bridge_node_find(uint64_t token) {
    bridge_node *entry = bridge_node_at(token >> 32);
    return entry != NULL && entry->busy && entry->node.generation == (uint32_t)token ? entry : NULL;
}

uint64_t bridge_node_count(void) { return table_size; }
