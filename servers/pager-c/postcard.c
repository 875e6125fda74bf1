/* §3, §8: slot requests and answers as postcard bytes. */
#include "pager.h"

u8 get_byte(struct cursor *c)
{
    c->wrong |= c->at >= c->end;
    return c->wrong ? 0 : *c->at++;
}

/* An integer of that many bits: seven in a byte, the lowest first. */
u64 get(struct cursor *c, unsigned bits)
{
    u64 value = 0, byte = 0x80;
    for (unsigned shift = 0; shift < bits && byte >= 0x80; shift += 7) {
        byte = get_byte(c);
        c->wrong |= bits - shift < 7 && byte >> (bits - shift);
        value |= (byte & 0x7f) << shift;
    }
    c->wrong |= byte >= 0x80;
    return value;
}

void put(struct cursor *c, u64 value)
{
    for (; c->at < c->end; value >>= 7) {
        *c->at++ = value | (value >= 0x80 ? 0x80 : 0);
        if (value < 0x80) return;
    }
    c->wrong = true;
}

/* The place of a variant, of so many. */
static u64 variant(struct cursor *c, u64 variants)
{
    u64 place = get(c, 32);
    c->wrong |= place >= variants;
    return place;
}

/* A string: its length, and that many bytes of UTF-8 (Unicode 15, table 3-7). */
static u64 text(struct cursor *c)
{
    u64 length = get(c, 64);
    c->wrong |= length > MAX_TEXT || length > (u64)(c->end - c->at);
    for (const u8 *end = c->at + (c->wrong ? 0 : length); c->at < end && !c->wrong;) {
        u8 lead = *c->at++, next = *c->at, more = lead < 0x80 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
        bool surplus = (lead == 0xe0 && next < 0xa0) || (lead == 0xf0 && next < 0x90);
        bool beyond = (lead == 0xed && next > 0x9f) || (lead == 0xf4 && next > 0x8f) || lead > 0xf4;
        c->wrong |= (lead >= 0x80 && lead < 0xc2) || surplus || beyond || more > end - c->at;
        for (; more && !c->wrong; more--)
            c->wrong |= (*c->at++ & 0xc0) != 0x80;
    }
    return length;
}

/* What each request has, and how each field travels: an integer of so many bits, or one of so many variants. */
static const u8 fields[REQUESTS][FIELDS] = {
    [HELLO] = { VER, VER, FEATURES }, [CREATE] = { ID, SPACE, ADDRESS, PAGES, FLAGS }, [DELETE] = { SPACE, ID },
    [MOVE] = { SPACE, ID, ADDRESS }, [SET_FLAGS] = { SPACE, ID, FLAGS }, [DIRTY_LOG] = { SPACE, ID, ADDRESS },
    [TRACK] = { SPACE, ADDRESS, TRACKING }, [WHY] = { ADDRESS }, [MEMORY_TYPE] = { REGISTER, VALUE },
    [TELL] = { TOPIC, ROW }, [POLICY] = { TEXT }, [IDLE] = { SPACE, ID, ADDRESS },
    [PREFAULT] = { ADDRESS, PAGES }, [HAND_OVER] = { ROW },
};
static const u8 widths[FIELDS] = { [VER] = 16, [FEATURES] = 32, [ID] = 16, [FLAGS] = 32, [ADDRESS] = 64, [PAGES] = 64,
                                   [REGISTER] = 32, [VALUE] = 64, [ROW] = 16 };
static const u8 variants[FIELDS] = { [SPACE] = SPACES, [TRACKING] = 2, [TOPIC] = TOPICS };

static struct request get_request(struct cursor *c)
{
    struct request r = { .variant = variant(c, REQUESTS) };
    for (const u8 *field = c->wrong ? &fields[STATS][0] : fields[r.variant]; *field; field++) {
        u64 value = *field == TEXT ? text(c) : variants[*field] ? variant(c, variants[*field]) : get(c, widths[*field]);
        if (*field != VER || field == fields[HELLO])            /* the major decides */
            r.field[*field] = value;
        if (*field == TOPIC && value == TELL_WHY) r.field[ADDRESS] = get(c, 64);
    }
    c->wrong |= c->at != c->end;
    return r;
}

/* Answers the request in the message page there; says how long the answer is. */
u64 answer_bytes(u16 vm, u64 length)
{
    struct answer answer = REFUSE(MALFORMED);
    struct cursor in = { message, message + length, length > MAX_MESSAGE }, out = { message, message + PAGE, false };
    struct request request = get_request(&in);
    if (!in.wrong) answer = pager_request(vm, &request);
    for (u64 n = 0; n < answer.count; n++)
        put(&out, answer.value[n]);
    return out.at - message;
}
