/* fake_script.c: reading scripts and filling replies. */
#include "fake_script.h"

#include <string.h>

static uint64_t number_of(const char *query, const char *key) {
    const size_t size = strlen(key);
    for (const char *at = query; (at = strstr(at, key)) != NULL; at += size)
        if ((at[-1] == '?' || at[-1] == '&') && at[size] == '=')
            return strtoull(at + size + 1, NULL, 10);
    return 0;
}

script script_read(const vp_span *target) {
    char text[512];
    const size_t size = target->size < sizeof text ? target->size : sizeof text - 1;
    memcpy(text, target->data, size);
    text[size] = 0;
    const char *query = strchr(text, '?');
    if (query == NULL)
        return (script){.status = 200};
    query++;
#define KEY(name) .name = number_of(query, #name)
    script script = {KEY(code), KEY(phase), KEY(outcome), KEY(message), KEY(status), KEY(lines), KEY(body), KEY(echo),
                     KEY(direct), KEY(after), KEY(hold), KEY(deaf), KEY(batch), KEY(pause), KEY(head), KEY(pieces), KEY(size),
                     KEY(rest), KEY(gap), KEY(early), KEY(slow), KEY(stuck), KEY(tally)};
    if (script.status == 0)
        script.status = 200;
    return script;
}

static uint64_t sum_of(uint64_t sum, const vp_span *span) {
    for (uint64_t at = 0; at < span->size; at += at < 4096 ? 1 : 509)
        sum = (sum ^ span->data[at]) * 1099511628211u;
    return sum;
}

#define SUM_OF_NOTHING 14695981039346656037u

uint64_t script_sum(const vp_node *node) {
    const vp_span *spans[] = {&node->method, &node->target, &node->fields, &node->body};
    uint64_t sum = SUM_OF_NOTHING;
    for (size_t i = 0; i < 4; i++)
        sum = sum_of(sum, spans[i]);
    return sum;
}

/* That of a piece, which has nothing else. */
uint64_t script_sum_body(const vp_node *node) { return sum_of(SUM_OF_NOTHING, &node->body); }

void script_check_fields(const vp_span *fields) {
    for (uint64_t at = 0; at < fields->size;) {
        uint32_t sizes[2];
        PROMISE(fields->size - at >= sizeof sizes);
        memcpy(sizes, fields->data + at, sizeof sizes);
        PROMISE(fields->size - at - sizeof sizes >= (uint64_t)sizes[0] + sizes[1]);
        at += sizeof sizes + sizes[0] + sizes[1];
    }
}

static uint8_t *room(vp_node *node, uint64_t size) {
    if (size > node->reply_cap) {
        free(node->reply);
        node->reply = malloc(size);
        node->reply_cap = size;
        PROMISE(node->reply != NULL);
    }
    node->reply_size = size;
    return node->reply;
}

static uint8_t *put_line(uint8_t *at, const char *name, const char *value) {
    const uint32_t sizes[2] = {(uint32_t)strlen(name), (uint32_t)strlen(value)};
    memcpy(at, sizes, sizeof sizes);
    memcpy(at + sizeof sizes, name, sizes[0]);
    memcpy(at + sizeof sizes + sizes[0], value, sizes[1]);
    return at + sizeof sizes + sizes[0] + sizes[1];
}

void script_fill_error(const script *script, vp_node *node) {
    uint8_t *text = room(node, script->message);
    for (uint64_t i = 0; i < script->message; i++)
        text[i] = i % 7 == 6 ? 0xff : (uint8_t)('a' + i % 26);
    node->fields_size = (uint32_t)script->message;
    node->attempts_size = 0;
}

void script_fill_reply(const script *script, vp_node *node, int with_body) {
    enum { LINE = 8 + 16 + 32 };
    const uint64_t body = !with_body ? 0 : script->echo ? node->body.size : script->body;
    uint8_t *memory = room(node, (script->echo ? node->fields.size : script->lines * LINE) + body), *at = memory;
    for (uint64_t i = 0; i < script->lines && !script->echo; i++) {
        char name[17], value[33];
        snprintf(name, sizeof name, "x-%llu", (unsigned long long)(i % 1000000));
        snprintf(value, sizeof value, "\xe9 %llu", (unsigned long long)i);
        at = put_line(at, name, value);
    }
    if (script->echo && node->fields.size) {
        memcpy(at, node->fields.data, node->fields.size);
        at += node->fields.size;
    }
    node->fields_size = (uint32_t)(at - memory);
    node->attempts_size = 0;
    if (script->echo && body)
        memcpy(at, node->body.data, body);
    else if (body)
        memset(at, (int)(body & 0xff), body);
    node->reply_size = node->fields_size + body;
    node->status = (uint32_t)script->status;
}

void script_fill_direct(vp_node *node, uint64_t size, uint64_t value) {
    for (uint64_t done = 0; done < size;) {
        const uint64_t piece = size - done < 65536 ? size - done : 65536;
        memset(node->direct + done, (int)(value & 0xff), piece);
        done += piece;
    }
}
