/* §3, §8: slot requests and answers as postcard bytes. */
#include "pager.h"

u8 get_byte(struct cursor *c) {
    c->wrong |= c->at >= c->end;
    return c->wrong ? 0 : *c->at++;
}

/* An integer of that many bits: seven in a byte, the lowest first. */
u64 get(struct cursor *c, unsigned bits) {
    u64 value = 0, byte = 0x80;
    for (unsigned shift = 0; shift < bits && byte >= 0x80; shift += 7) {
        byte = get_byte(c);
        c->wrong |= bits - shift < 7 && byte >> (bits - shift);
        value |= (byte & 0x7f) << shift;
    }
    c->wrong |= byte >= 0x80;
    return value;
}

/* A sequence of bytes, or a string: its length, and they. */
struct cursor get_bytes(struct cursor *c) {
    u64 length = get(c, 64);
    c->wrong |= length > (u64)(c->end - c->at);
    c->at += c->wrong ? 0 : length;
    return (struct cursor){ c->at - (c->wrong ? 0 : length), c->at, c->wrong };
}

void put(struct cursor *c, u64 value) {
    for (; c->at < c->end; value >>= 7) {
        *c->at++ = value | (value >= 0x80 ? 0x80 : 0);
        if (value < 0x80) return;
    }
    c->wrong = true;
}

/* A string: UTF-8 (Unicode 15, table 3-7), of no more bytes than §10 has. No text says anything to this pager. */
static u64 text(struct cursor *c) {
    struct cursor t = get_bytes(c);
    c->wrong |= t.end - t.at > MAX_TEXT;
    while (t.at < t.end && !c->wrong) {
        u8 lead = *t.at++, next = *t.at, more = lead < 0x80 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
        bool surplus = (lead == 0xe0 && next < 0xa0) || (lead == 0xf0 && next < 0x90);
        bool beyond = (lead == 0xed && next > 0x9f) || (lead == 0xf4 && next > 0x8f) || lead > 0xf4;
        c->wrong |= (lead >= 0x80 && lead < 0xc2) || surplus || beyond || more > t.end - t.at;
        for (; more && !c->wrong; more--)
            c->wrong |= (*t.at++ & 0xc0) != 0x80;
    }
    return 0;
}

/* What each request has, and what each field is: an integer of so many bits, some of them below a number. */
static const u8 fields[REQUESTS][FIELDS] = {
    [HELLO] = { VER, VER, FLAGS }, [CREATE] = { ID, SPACE, ADDRESS, PAGES, FLAGS }, [DELETE] = { SPACE, ID },
    [MOVE] = { SPACE, ID, ADDRESS }, [SET_FLAGS] = { SPACE, ID, FLAGS }, [DIRTY_LOG] = { SPACE, ID, ADDRESS },
    [TRACK] = { SPACE, ADDRESS, TRACKING }, [WHY] = { ADDRESS }, [MEMORY_TYPE] = { REGISTER, VALUE }, [POLICY] = { TEXT },
    [TELL] = { TOPIC, ROW }, [IDLE] = { SPACE, ID, ADDRESS }, [PREFAULT] = { ADDRESS, PAGES }, [HAND_OVER] = { ROW },
};
static const struct { u8 bits, variants; } kinds[FIELDS] = {
    [VER] = { 16 }, [ID] = { 16 }, [SPACE] = { 32, SPACES }, [FLAGS] = { 32 }, [ADDRESS] = { 64 }, [PAGES] = { 64 },
    [TRACKING] = { 32, 2 }, [REGISTER] = { 32 }, [VALUE] = { 64 }, [TOPIC] = { 32, TOPICS }, [ROW] = { 16 },
};

static struct request get_request(struct cursor *c) {
    struct request r = { .variant = get(c, 32) };
    c->wrong |= r.variant >= REQUESTS;
    for (const u8 *field = fields[c->wrong ? STATS : r.variant]; *field; field++) {
        u64 value = *field == TEXT ? text(c) : get(c, kinds[*field].bits);
        c->wrong |= kinds[*field].variants && value >= kinds[*field].variants;
        if (*field != VER || field == fields[HELLO])            /* the major decides */
            r.field[*field] = value;
        if (*field == TOPIC && value == TELL_WHY) r.field[ADDRESS] = get(c, 64);
    }
    c->wrong |= c->at != c->end;
    return r;
}

/* Answers the request in the message page there; says how long the answer is. */
u64 answer_bytes(u16 vm, u64 length) {
    struct cursor in = { message, message + length, length > MAX_MESSAGE }, out = { message, message + PAGE, false };
    struct request request = get_request(&in);
    struct answer answer = in.wrong ? REFUSE(MALFORMED) : pager_request(vm, &request);
    for (u64 n = 0; n < answer.count; n++)
        put(&out, answer.value[n]);
    return out.at - message;
}
