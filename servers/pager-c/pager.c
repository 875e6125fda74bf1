/* Guest memory: slots, faults, the log of written pages. A slot's memory is one run of the pager's frames, cleared when
 * the slot is made: which frame a page has is arithmetic, and one grant shows up to a leaf table of them. */
#include "pager.h"

enum { SLOTS = 32, FRAMES = 1 << 20 };          /* in each space; in all, 4 GiB */
enum { TABLES_LOW = 6, TABLES_MORE = 32 };      /* §5.3: what one fault can need */
enum { USED = 1, DIRTY = 2, TRACKED = 4 };      /* what is noted of a frame */

struct slot { u64 base, pages, place, flags, id, space; };      /* place: in `notes`; without pages it is none */
static struct vm {
    bool greeted;
    u64 generation, replies[DENY + 1];
    struct slot slots[SPACES][SLOTS];
} vms[MAX_VMS];
static u8 notes[FRAMES];
u64 first_pfn, frames, guest_frames, known_vms;

/* The place of the first run of so many unused frames, which are used from now on; FRAMES when there is none. */
static u64 take_frames(u64 count)
{
    for (u64 n = 0, run = 0; n < frames && n < FRAMES; n++) {
        run = notes[n] & USED ? 0 : run + 1;
        if (run == count) {
            while (run)
                notes[n - --run] = USED;
            return n + 1 - count;
        }
    }
    return FRAMES;
}

/* The slot, other than `but`, that shares pages with the range. */
static struct slot *slot_across(struct vm *vm, u8 space, u64 base, u64 pages, const struct slot *but)
{
    for (struct slot *s = vm->slots[space]; s < vm->slots[space] + SLOTS; s++)
        if (s->pages && s != but && base < s->base + s->pages && s->base < base + pages)
            return s;
    return NULL;
}

static struct slot *slot_named(struct vm *vm, u8 space, u16 id)
{
    for (struct slot *s = vm->slots[space]; s < vm->slots[space] + SLOTS; s++)
        if (s->pages && s->id == id)
            return s;
    return NULL;
}

/* §5.3: what the guest may do with a page. In a slot that logs it may write once the write is noted. */
static u8 rights(const struct slot *s, u8 note)
{
    bool clean = s->flags & LOG_DIRTY_PAGES && !(note & DIRTY);
    return READ | EXECUTE | (s->flags & READONLY || note & TRACKED || clean ? 0 : WRITE);
}

/* Shows the longest run around a page, in its leaf table, that has the same rights. */
static struct reply map(const struct slot *s, u64 gfn, u64 mmu_seq)
{
    u64 at = gfn - s->base, leaf = gfn % LEAVES, from = at, to = at + 1;
    const u8 *note = notes + s->place, right = rights(s, note[at]);
    while (from && at - from < leaf && rights(s, note[from - 1]) == right)
        from--;
    while (to < s->pages && to - at < LEAVES - leaf && rights(s, note[to]) == right)
        to++;
    return (struct reply){ .variant = MAP, .gfn = s->base + from, .pfn = first_pfn + s->place + from,
                           .count = to - from, .rights = right, .mmu_seq = mmu_seq,
                           .hidden = s->flags & PRIVATE };
}

static struct reply deny(u8 reason)
{
    return (struct reply){ .variant = DENY, .reason = reason };
}

static struct reply resolve(struct vm *vm, const struct fault *fault)
{
    u64 gfn = fault->gpa / PAGE;
    struct slot *s = slot_across(vm, NORMAL, gfn, 1, NULL);
    if (fault->kind == LOG_FULL)                /* P19: it was never switched on */
        return (struct reply){ .variant = RETRY };
    if (fault->origin == WINDOW && (!s || s->flags & PRIVATE))
        return deny(s ? BY_POLICY : NO_SLOT);
    if (!s)
        return (struct reply){ .variant = MMIO, .generation = vm->generation };
    if (fault->kind == VIOLATION && fault->qualification & ACCESS_WRITE) {
        u8 *note = &notes[s->place + gfn - s->base];
        if (s->flags & READONLY || *note & TRACKED)     /* reads stay the guest's own: not to be remembered */
            return fault->origin == WINDOW ? deny(BY_POLICY) : (struct reply){ .variant = MMIO };
        *note |= s->flags & LOG_DIRTY_PAGES ? DIRTY : 0;
    }
    return map(s, gfn, fault->mmu_seq);
}

/* Answers a fault; with a refusal, one whose answer was refused. */
struct reply pager_fault(const struct fault *fault, u64 refusal)
{
    bool known = fault->vm < MAX_VMS && known_vms >> fault->vm & 1 && fault->vcpu < MAX_VCPUS;
    bool mends = !refusal || refusal == REFUSED_STALE || refusal == REFUSED_NO_TABLES;
    if (!known || !mends || fault->origin > WINDOW || fault->kind > LOG_FULL)
        return deny(INTERNAL);                  /* P4 */
    struct reply reply = resolve(&vms[fault->vm], fault);
    bool needs = reply.variant == MAP && (fault->tables_left < TABLES_LOW || refusal == REFUSED_NO_TABLES);
    for (u64 count = TABLES_MORE, place; needs && count && !reply.tables_count; count /= 2)
        if ((place = take_frames(count)) < FRAMES)      /* P17: theirs, whatever becomes of the reply */
            reply.tables = first_pfn + place, reply.tables_count = count;
    if (needs && !reply.tables_count && (refusal == REFUSED_NO_TABLES || fault->origin == WINDOW))
        reply = deny(NO_MEMORY);                /* P16: a window that cannot show the page would ask for ever */
    vms[fault->vm].replies[reply.variant]++;
    return reply;
}

/* An operation on pages of a slot. Nothing of system-management mode's space is mapped (§8). */
static struct answer pages_op(struct vm *vm, const struct slot *s, u64 op, u64 page, u64 count)
{
    u64 w[6] = { HANDLE_VM + (vm - vms), op, s->base + page, count, READ | EXECUTE };
    u64 refusal = s->space == NORMAL ? kernel(MEM_OP, w) : 0;
    /* By its place in §9.1, where 9 is missing and 28 stands behind 29. */
    u64 place = refusal == 29 ? 26 : refusal == 28 ? 27 : refusal - (refusal < 9 ? 1 : 2);
    return refusal ? REFUSE(KERNEL, place) : ANSWER(TOLD_DONE);
}

/* P20: the VM's slots are others now, so what is remembered as MMIO must be asked again. */
static struct answer changed(struct vm *vm)
{
    static u64 generation;
    vm->generation = kernel(MEM_OP, (u64[6]){ HANDLE_VM + (vm - vms), GENERATION, ++generation }) ? 0 : generation;
    return ANSWER(TOLD_DONE);
}

static struct answer create(struct vm *vm, const struct request *r)
{
    u64 base = r->field[ADDRESS], pages = r->field[PAGES], space = r->field[SPACE];
    struct slot *s = vm->slots[space], *end = s + SLOTS, *other = slot_across(vm, space, base, pages, NULL);
    while (s < end && s->pages)
        s++;
    if (r->field[FLAGS] & ~(u64)KNOWN_FLAGS)
        return REFUSE(UNKNOWN_FLAG);
    if (!pages || pages > guest_frames)
        return REFUSE(BAD_SIZE);
    if (base > guest_frames - pages)
        return REFUSE(BEYOND_GUEST);
    if (slot_named(vm, space, r->field[ID]))
        return REFUSE(EXISTS);
    if (other)
        return REFUSE(OVERLAP, other->id);
    u64 place = s < end ? take_frames(pages) : FRAMES;
    if (place == FRAMES)
        return REFUSE(s < end ? OUT_OF_MEMORY : TOO_MANY);
    void *at = frame(first_pfn + place);
    u64 words = pages * PAGE / 8;
    __asm__ volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(0ULL) : "memory");
    *s = (struct slot){ base, pages, place, r->field[FLAGS], r->field[ID], space };
    return changed(vm);
}

/* Delete, Move, SetFlags: decide, ask the kernel, then do. */
static struct answer change(struct vm *vm, struct slot *s, const struct request *r)
{
    u64 base = r->field[ADDRESS], flags = r->field[FLAGS], more = flags & ~s->flags;
    const struct slot *other = slot_across(vm, s->space, base, s->pages, s);
    if (r->variant == MOVE && base > guest_frames - s->pages)
        return REFUSE(BEYOND_GUEST);
    if (r->variant == MOVE && other)
        return REFUSE(OVERLAP, other->id);
    if (r->variant == SET_FLAGS && flags & ~(u64)KNOWN_FLAGS)
        return REFUSE(UNKNOWN_FLAG);
    bool unmap = r->variant != SET_FLAGS || (flags ^ s->flags) & PRIVATE;
    struct answer answer = unmap || more ? pages_op(vm, s, unmap ? UNMAP : PROTECT, 0, s->pages) : ANSWER(TOLD_DONE);
    if (answer.value[0] == TOLD_REFUSED)
        return answer;
    u8 forgotten = r->variant == DELETE ? ~0 : r->variant == SET_FLAGS && more & LOG_DIRTY_PAGES ? DIRTY : 0;
    for (u64 n = 0; forgotten && n < s->pages; n++)
        notes[s->place + n] &= ~forgotten;
    s->base = r->variant == MOVE ? base : s->base;
    s->flags = r->variant == SET_FLAGS ? flags : s->flags;
    s->pages = r->variant == DELETE ? 0 : s->pages;
    return changed(vm);
}

static struct answer dirty_log(struct vm *vm, struct slot *s, u64 from)
{
    u8 *note = notes + s->place;
    if (!(s->flags & LOG_DIRTY_PAGES))
        return REFUSE(NOT_LOGGED);
    while (from < s->pages && !(note[from] & DIRTY))
        from++;
    if (from >= s->pages)
        return ANSWER(TOLD_DONE);
    u64 first = from / 64 * 64, end = s->pages < first + DIRTY_PAGES ? s->pages : first + DIRTY_PAGES;
    struct answer answer = pages_op(vm, s, PROTECT, from, end - from);
    if (answer.value[0] == TOLD_REFUSED)
        return answer;
    answer = (struct answer){ 2 + DIRTY_WORDS, { TOLD_DIRTY, first } };
    for (; from < end; note[from++] &= ~DIRTY)
        answer.value[2 + (from - first) / 64] |= note[from] & DIRTY ? 1ULL << from % 64 : 0;
    return answer;
}

static struct answer track(struct vm *vm, u8 space, u64 gfn, bool on)
{
    const struct slot *s = slot_across(vm, space, gfn, 1, NULL);
    if (!s)
        return REFUSE(NO_SUCH_SLOT);
    struct answer answer = on ? pages_op(vm, s, PROTECT, gfn - s->base, 1) : ANSWER(TOLD_DONE);
    u8 *note = &notes[s->place + gfn - s->base];
    if (answer.value[0] == TOLD_DONE)
        *note = on ? *note | TRACKED : *note & ~TRACKED;
    return answer;
}

/* §8. No value changes an answer: pages are of 4 KiB. */
static struct answer memory_type(u64 reg)
{
    bool fixed = reg == 0x250 || reg == 0x258 || reg == 0x259 || (reg >= 0x268 && reg <= 0x26f);
    return fixed || (reg >= 0x200 && reg <= 0x213) || reg == 0x2ff ? ANSWER(TOLD_DONE) : REFUSE(UNKNOWN_REGISTER);
}

/* A figure, or a line for people: §2.1. */
static void say(u64 call, const char *text, u64 number)
{
    u64 length = 0, unit = 1;
    u8 *line = message + PAGE - MAX_LINE;
    while (*text)
        line[length++] = *text++;
    while (number / unit >= 10)
        unit *= 10;
    for (; unit; unit /= 10)
        line[length++] = '0' + number / unit % 10;
    kernel(call, (u64[6]){ call == LOG ? 3 : 0, length });
}

static struct answer stats(const struct vm *vm)
{
    say(STAT, "pf_fixed ", vm->replies[MAP]);
    say(STAT, "pf_emulate ", vm->replies[MMIO]);
    say(STAT, "pf_denied ", vm->replies[DENY]);
    return ANSWER(TOLD_DONE);
}

static struct answer why(struct vm *vm, u64 gfn)
{
    const struct slot *s = slot_across(vm, NORMAL, gfn, 1, NULL);
    say(LOG, s ? "why: the guest's memory is in slot " : "why: no slot has gfn ", s ? s->id : gfn);
    if (s)
        say(LOG, "why: the page's frame is pfn ", first_pfn + s->place + gfn - s->base);
    return ANSWER(TOLD_DONE);
}

struct answer pager_request(u16 number, const struct request *r)
{
    struct vm *vm = &vms[number % MAX_VMS];
    const u64 *f = r->field;
    if (r->variant == HELLO && f[VER] != MAJOR)
        return REFUSE(VERSION);
    vm->greeted |= r->variant == HELLO;
    if (!vm->greeted)
        return REFUSE(NO_HELLO);
    struct slot *s = slot_named(vm, f[SPACE], f[ID]);
    switch (r->variant) {
    case HELLO: return ANSWER(TOLD_HELLO, MAJOR, MINOR, FEATURE_DIRTY_LOG);
    case CREATE: return create(vm, r);
    case DELETE: case MOVE: case SET_FLAGS: return s ? change(vm, s, r) : REFUSE(NO_SUCH_SLOT);
    case DIRTY_LOG: return s ? dirty_log(vm, s, f[ADDRESS]) : REFUSE(NO_SUCH_SLOT);
    case TRACK: return track(vm, f[SPACE], f[ADDRESS], f[TRACKING]);
    case MEMORY_TYPE: return memory_type(f[REGISTER]);
    case STATS: return stats(vm);
    case WHY: return why(vm, f[ADDRESS] / PAGE);
    case IDLE: return s ? ANSWER(TOLD_DONE) : REFUSE(NO_SUCH_SLOT);     /* P43: it does not know which are */
    case PREFAULT: return f[PAGES] ? ANSWER(TOLD_LEFT, f[PAGES]) : ANSWER(TOLD_DONE);       /* its runs are long */
    case TELL: return ANSWER(TOLD_DONE);                                /* nor has it lines for people */
    default: return REFUSE(UNKNOWN_POLICY);
    }
}
