/* Guest memory: slots, faults, the log of written pages. A slot's pages are a run of places in `notes` and `frame_of`;
 * their frames are cleared when the slot is made, and one grant shows up to a leaf table of those that lie in a row. A
 * pager that goes on where another one has handed over finds in the kernel's ledger which frame a page has (§13.4). */
#include "pager.h"

enum { SLOTS = 32, FRAMES = 1 << 20 };          /* in each space; in all, 4 GiB */
enum { TABLES_LOW = 6, TABLES_MORE = 32 };      /* §5.3: what one fault can need */
enum { USED = 1, DIRTY = 2, TRACKED = 4, SHOWN = 8, TAKEN = 16 };       /* noted of a place; the last, of a frame */

struct slot { u64 base, pages, place, flags, id, space; };      /* without pages it is none */
static struct vm {
    bool greeted;
    u64 generation, replies[DENY + 1];
    struct slot slots[SPACES][SLOTS];
} vms[MAX_VMS];
static u8 notes[FRAMES];
static uint32_t frame_of[FRAMES];
static bool handed, taking;                     /* it stands still: has handed over, or does not know all slots yet */
static u64 waiting, generation;                 /* vCPUs that wait until it goes on */
u64 first_pfn, frames, guest_frames, known_vms;

/* An operation on a VM. */
static u64 op(const struct vm *vm, u64 w[6]) {
    w[0] = HANDLE_VM + (vm - vms);
    return kernel(MEM_OP, w);
}
#define OP(vm, ...) op(vm, (u64[6]){ 0, __VA_ARGS__ })

/* Behind another pager every frame is taken, but for those of which the ledger says that they are not mapped. */
void pager_start(u64 incarnation) {
    u64 w[6] = { 0, OWNED, first_pfn };
    generation = incarnation << 20;             /* §5.2: none that was said before */
    taking = incarnation;
    for (u64 n = 0; taking && n < FRAMES; n++)
        notes[n] = TAKEN;
    for (; taking && !op(vms + __builtin_ctzll(known_vms), w); w[2] = w[0] + w[1], w[1] = OWNED)
        for (u64 n = 0, at = w[0] - first_pfn; !w[2] && n < w[1] && at + n < FRAMES; n++)
            notes[at + n] = 0;
}

/* Of places, or of frames, the first run of so many without that note, which have it then; FRAMES if there is none. */
static u64 take(u8 note, u64 count) {
    for (u64 n = 0, run = 0; n < frames && n < FRAMES; n++) {
        run = notes[n] & note ? 0 : run + 1;
        if (run == count) {
            while (run) notes[n - --run] |= note;
            return n + 1 - count;
        }
    }
    return FRAMES;
}

/* The slot, other than `but`, that shares pages with the range. */
static struct slot *slot_across(struct vm *vm, u8 space, u64 base, u64 pages, const struct slot *but) {
    for (struct slot *s = vm->slots[space]; s < vm->slots[space] + SLOTS; s++)
        if (s->pages && s != but && base < s->base + s->pages && s->base < base + pages) return s;
    return NULL;
}

static struct slot *slot_named(struct vm *vm, u8 space, u16 id) {
    for (struct slot *s = vm->slots[space]; s < vm->slots[space] + SLOTS; s++)
        if (s->pages && s->id == id) return s;
    return NULL;
}

/* §5.3: what the guest may do with a page. In a slot that logs it may write once the write is noted. */
static u8 rights(const struct slot *s, u8 note) {
    bool clean = s->flags & LOG_DIRTY_PAGES && !(note & DIRTY);
    return READ | EXECUTE | (s->flags & READONLY || note & TRACKED || clean ? 0 : WRITE);
}

/* The slot is none any more; its frames are free, if it has one for each page. */
static void forget(struct slot *s, bool furnished) {
    for (u64 n = s->place; s->pages; s->pages--, n++) {
        notes[frame_of[n]] &= furnished ? ~TAKEN : ~0;
        notes[n] &= TAKEN;
    }
}

/* Shows the longest run around a page, in its leaf table, that has the same rights and frames in a row. */
static struct words map(const struct slot *s, u64 gfn, u64 mmu_seq) {
    u64 at = gfn - s->base, leaf = gfn % LEAVES, from = at, to = at + 1;
    const uint32_t *f = frame_of + s->place;
    u8 *note = notes + s->place, right = rights(s, note[at]);
    while (from && at - from < leaf && rights(s, note[from - 1]) == right && f[from - 1] + 1 == f[from])
        from--;
    while (to < s->pages && to - at < LEAVES - leaf && rights(s, note[to]) == right && f[to] == f[to - 1] + 1)
        to++;
    for (u64 n = from; n < to; n++)
        note[n] |= SHOWN;
    u64 shape = (to - from) | LEVEL_4K << 10 | right << 12 | WRITE_BACK << 15 | (s->flags & PRIVATE ? UNSEEN : 0);
    return REPLY(MAP, shape, s->base + from, first_pfn + f[from], mmu_seq);
}

static struct words resolve(struct vm *vm, const u64 w[6], u64 kind, bool window) {
    u64 gfn = w[1] / PAGE, vcpu = (vm - vms) * MAX_VCPUS + (u16)w[0];
    struct slot *s = slot_across(vm, NORMAL, gfn, 1, NULL);
    if (window && (handed || taking || !s || s->flags & PRIVATE)) return DENIAL(s ? BY_POLICY : NO_SLOT);
    if (handed || taking) {
        waiting |= 1ULL << vcpu;
        return REPLY(PENDING, 0, vcpu);
    }
    if (kind == LOG_FULL) return REPLY(RETRY, 0);       /* P19: it was never switched on */
    if (!s) return REPLY(MMIO, 0, vm->generation);
    bool writes = kind == VIOLATION && w[2] & ACCESS_WRITE;
    u8 *note = &notes[s->place + gfn - s->base];
    if (writes && (s->flags & READONLY || *note & TRACKED))     /* reads stay the guest's own: not to be remembered */
        return window ? DENIAL(BY_POLICY) : REPLY(MMIO, 0);
    *note |= writes && s->flags & LOG_DIRTY_PAGES ? DIRTY : 0;
    return map(s, gfn, w[3]);
}

/* Answers a fault (§5.1); with a refusal, one whose answer was refused. */
struct words pager_fault(const u64 w[6], u64 refusal) {
    u64 vm = (u16)(w[0] >> 16), tables_left = (u16)(w[0] >> 32), origin = (u8)(w[0] >> 48), kind = w[0] >> 56;
    bool known = vm < MAX_VMS && known_vms >> vm & 1 && (u16)w[0] < MAX_VCPUS && origin <= WINDOW && kind <= LOG_FULL;
    if (!known || (refusal && (refusal < REFUSED_STALE || refusal > REFUSED_LARGE_PAGE)))
        return DENIAL(INTERNAL);                /* P4 */
    if (refusal == REFUSED_LARGE_PAGE) {        /* another pager's: none is larger than a gigabyte */
        OP(vms + vm, UNMAP, w[1] >> 30 << 18, 1 << 18);
        return REPLY(RETRY, 0);
    }
    struct words reply = resolve(&vms[vm], w, kind, origin == WINDOW);
    bool needs = reply.w[0] >> 56 == MAP && (tables_left < TABLES_LOW || refusal == REFUSED_NO_TABLES);
    for (u64 count = TABLES_MORE, place; needs && count && !reply.w[4]; count /= 2)
        if ((place = take(TAKEN, count)) < FRAMES)      /* P17: theirs, whatever becomes of the reply */
            reply.w[4] = count << 52 | (first_pfn + place);
    if (needs && !reply.w[4] && (refusal == REFUSED_NO_TABLES || origin == WINDOW))
        reply = DENIAL(NO_MEMORY);              /* P16: a window that cannot show the page would ask for ever */
    vms[vm].replies[reply.w[0] >> 56]++;
    return reply;
}

/* An operation on pages of a slot. Nothing of system-management mode's space is mapped (§8). */
static struct answer pages_op(struct vm *vm, const struct slot *s, u64 what, u64 page, u64 count) {
    u64 refusal = s->space == NORMAL ? OP(vm, what, s->base + page, count, READ | EXECUTE) : 0;
    /* By its place in §9.1, where 9 is missing and 28 stands behind 29. */
    u64 place = refusal == 29 ? 26 : refusal == 28 ? 27 : refusal - (refusal < 9 ? 1 : 2);
    return refusal ? REFUSE(KERNEL, place) : ANSWER(TOLD_DONE);
}

/* P20: the VM's slots are others now, so what is remembered as MMIO must be asked again. */
static struct answer changed(struct vm *vm) {
    vm->generation = OP(vm, GENERATION, ++generation) ? 0 : generation;
    return ANSWER(TOLD_DONE);
}

/* The first leaf that is mapped at `gfn` or behind it: how many pages it has, 0 when there is none before `end`. */
static u64 leaf(struct vm *vm, u64 gfn, u64 end, u64 *first, u64 *pfn) {
    u64 w[6] = { 0, LEAF, gfn };
    bool none = op(vm, w) || w[0] >= end;
    *first = none ? end : w[0], *pfn = w[1];
    return none ? 0 : 1ULL << ((w[2] >> 10 & 3) - 1) * 9;
}

/* Gives each page of a new slot a frame: the one that the ledger has, or one of zeros. False when there are too few. */
static bool furnish(struct vm *vm, const struct slot *s) {
    u64 end = s->base + s->pages, wanted = s->pages, count, first, pfn, at = 0, spare = 0;
    for (u64 g = s->base; taking && s->space == NORMAL && (count = leaf(vm, g, end, &first, &pfn)); g = first + count)
        for (u64 n = 0; n < count && first + n < end; n++, wanted--) {
            notes[s->place + first + n - s->base] |= SHOWN | (s->flags & LOG_DIRTY_PAGES ? DIRTY : 0);
            frame_of[s->place + first + n - s->base] = pfn + n - first_pfn;
        }
    for (u64 n = 0; n < frames && n < FRAMES; n++)
        spare += !(notes[n] & TAKEN);
    if (spare < wanted) return false;
    for (u64 n = s->place; n < s->place + s->pages; n++) {
        if (notes[n] & SHOWN) continue;
        while (notes[at] & TAKEN) at++;
        notes[at] |= TAKEN;
        frame_of[n] = at;
        u64 bytes = (u64)frame(first_pfn + at), words = PAGE / 8;
        __asm__ volatile("rep stosq" : "+D"(bytes), "+c"(words) : "a"(0ULL) : "memory");
    }
    return true;
}

static struct answer create(struct vm *vm, const struct request *r) {
    u64 base = r->field[ADDRESS], pages = r->field[PAGES], space = r->field[SPACE];
    struct slot *s = vm->slots[space], *end = s + SLOTS, *other = slot_across(vm, space, base, pages, NULL);
    while (s < end && s->pages) s++;
    if (r->field[FLAGS] & ~(u64)KNOWN_FLAGS) return REFUSE(UNKNOWN_FLAG);
    if (!pages || pages > guest_frames) return REFUSE(BAD_SIZE);
    if (base > guest_frames - pages) return REFUSE(BEYOND_GUEST);
    if (slot_named(vm, space, r->field[ID])) return REFUSE(EXISTS);
    if (other) return REFUSE(OVERLAP, other->id);
    u64 place = s < end ? take(USED, pages) : FRAMES;
    if (place == FRAMES) return REFUSE(s < end ? OUT_OF_MEMORY : TOO_MANY);
    *s = (struct slot){ base, pages, place, r->field[FLAGS], r->field[ID], space };
    if (furnish(vm, s)) return changed(vm);
    forget(s, false);
    return REFUSE(OUT_OF_MEMORY);
}

/* Delete, Move, SetFlags: decide, ask the kernel, then do. */
static struct answer change(struct vm *vm, struct slot *s, const struct request *r) {
    u64 base = r->field[ADDRESS], flags = r->field[FLAGS], more = flags & ~s->flags;
    const struct slot *other = slot_across(vm, s->space, base, s->pages, s);
    if (r->variant == MOVE && base > guest_frames - s->pages) return REFUSE(BEYOND_GUEST);
    if (r->variant == MOVE && other) return REFUSE(OVERLAP, other->id);
    if (r->variant == SET_FLAGS && flags & ~(u64)KNOWN_FLAGS) return REFUSE(UNKNOWN_FLAG);
    bool unmap = r->variant != SET_FLAGS || (flags ^ s->flags) & PRIVATE;
    struct answer answer = unmap || more ? pages_op(vm, s, unmap ? UNMAP : PROTECT, 0, s->pages) : ANSWER(TOLD_DONE);
    if (answer.value[0] == TOLD_REFUSED) return answer;
    for (u64 n = 0; r->variant == SET_FLAGS && more & LOG_DIRTY_PAGES && n < s->pages; n++)
        notes[s->place + n] &= ~DIRTY;
    if (r->variant == DELETE) forget(s, true);
    s->base = r->variant == MOVE ? base : s->base;
    s->flags = r->variant == SET_FLAGS ? flags : s->flags;
    return changed(vm);
}

/* The server of the VM has stopped: nothing of it is mapped any more, and its frames are free. */
void pager_vm_ended(u16 vm) {
    for (struct slot *s = vms[vm].slots[0]; s < vms[vm].slots[0] + SPACES * SLOTS; s++)
        if (s->pages && pages_op(vms + vm, s, UNMAP, 0, s->pages).value[0] == TOLD_DONE) forget(s, true);
}

/* Faults are answered from now on, unless something is mapped that no slot has. */
static struct answer go_on(struct vm *vm) {
    u64 count, first, pfn;
    for (u64 gfn = 0; taking && (count = leaf(vm, gfn, guest_frames, &first, &pfn)); gfn = first + count)
        if (!slot_across(vm, NORMAL, first, count, NULL)) return REFUSE(NO_HAND_OVER);
    kernel(KEEP, (u64[6]){ 0 });                        /* nothing, as ever */
    handed = taking = false;
    for (u64 vcpu = 0; waiting; vcpu++, waiting >>= 1)
        if (waiting & 1) OP(vm, READY, vcpu);
    return ANSWER(TOLD_DONE);
}

/* Maps what was shown before and is not mapped, so that the ledger has every page that can have content. */
static bool show_all(struct vm *vm, const struct slot *s) {
    for (u64 gfn = s->base, first, pfn, place, refusal; gfn < s->base + s->pages; gfn++) {
        u64 w[6] = { 0, INFO };
        if (!(notes[s->place + gfn - s->base] & SHOWN) || leaf(vm, gfn, gfn + 1, &first, &pfn) || op(vm, w)) continue;
        struct words r = map(s, gfn, w[0]);
        while ((refusal = OP(vm, SHOW, r.w[0] & SHAPE, r.w[1], r.w[2], r.w[3])) == REFUSED_NO_TABLES)
            if ((place = take(TAKEN, 1)) == FRAMES || OP(vm, DONATE, first_pfn + place, 1)) return false;
        if (refusal) return false;
    }
    return true;
}

static struct answer hand_over(struct vm *vm, u64 number) {
    for (struct vm *other = vms; other < vms + MAX_VMS; other++)
        if (taking || (other != vm && other->greeted) || (number && !handed)) return REFUSE(NO_HAND_OVER);
    struct slot *s = vm->slots[0], *end = s + SPACES * SLOTS;
    for (; !number && s < end; s++)
        if (s->pages && s->space == NORMAL && !show_all(vm, s)) return REFUSE(OUT_OF_MEMORY);
    handed = true;
    for (s = vm->slots[0]; s < end; s++)
        if (s->pages && !number--) return ANSWER(TOLD_SLOT, s->id, s->space, s->base, s->pages, s->flags);
    kernel(KEEP, (u64[6]){ HANDED_OVER });
    return ANSWER(TOLD_DONE);
}

static struct answer dirty_log(struct vm *vm, struct slot *s, u64 from) {
    u8 *note = notes + s->place;
    if (!(s->flags & LOG_DIRTY_PAGES)) return REFUSE(NOT_LOGGED);
    while (from < s->pages && !(note[from] & DIRTY)) from++;
    if (from >= s->pages) return ANSWER(TOLD_DONE);
    u64 first = from / 64 * 64, end = s->pages < first + DIRTY_PAGES ? s->pages : first + DIRTY_PAGES;
    struct answer answer = pages_op(vm, s, PROTECT, from, end - from);
    if (answer.value[0] == TOLD_REFUSED) return answer;
    answer = (struct answer){ 2 + DIRTY_WORDS, { TOLD_DIRTY, first } };
    for (; from < end; note[from++] &= ~DIRTY)
        answer.value[2 + (from - first) / 64] |= note[from] & DIRTY ? 1ULL << from % 64 : 0;
    return answer;
}

static struct answer track(struct vm *vm, u8 space, u64 gfn, bool on) {
    const struct slot *s = slot_across(vm, space, gfn, 1, NULL);
    if (!s) return REFUSE(NO_SUCH_SLOT);
    struct answer answer = on ? pages_op(vm, s, PROTECT, gfn - s->base, 1) : ANSWER(TOLD_DONE);
    u8 *note = &notes[s->place + gfn - s->base];
    if (answer.value[0] == TOLD_DONE) *note = on ? *note | TRACKED : *note & ~TRACKED;
    return answer;
}

/* §8. No value changes an answer: pages are of 4 KiB. */
static struct answer memory_type(u64 reg) {
    bool fixed = reg == 0x250 || reg == 0x258 || reg == 0x259 || (reg >= 0x268 && reg <= 0x26f);
    return fixed || (reg >= 0x200 && reg <= 0x213) || reg == 0x2ff ? ANSWER(TOLD_DONE) : REFUSE(UNKNOWN_REGISTER);
}

/* A figure for each kind of answer that somebody asks about: `key value` (§2.1). */
static struct answer stats(const struct vm *vm) {
    static const char *const keys[DENY + 1] = { [MAP] = "pf_fixed ", [MMIO] = "pf_emulate ", [DENY] = "pf_denied " };
    u8 *line = message + PAGE - MAX_LINE;
    for (u64 n = MAP; n <= DENY; n++) {
        u64 length = 0, unit = 1;
        for (const char *key = keys[n]; key && *key; key++) line[length++] = *key;
        while (vm->replies[n] / unit >= 10) unit *= 10;
        for (; unit; unit /= 10) line[length++] = '0' + vm->replies[n] / unit % 10;
        if (keys[n]) kernel(STAT, (u64[6]){ 0, length });
    }
    return ANSWER(TOLD_DONE);
}

struct answer pager_request(u16 number, const struct request *r) {
    struct vm *vm = &vms[number % MAX_VMS];
    const u64 *f = r->field;
    if (handed && r->variant != HAND_OVER) go_on(vm);
    if (r->variant == HELLO && f[VER] != MAJOR) return REFUSE(VERSION);
    if (r->variant == HELLO)
        vm->greeted = true, OP(vm, SET_LOG, 0);         /* a pager before may have switched it on */
    if (!vm->greeted) return REFUSE(NO_HELLO);
    struct slot *s = slot_named(vm, f[SPACE], f[ID]);
    switch (r->variant) {
    case HELLO: return ANSWER(TOLD_HELLO, MAJOR, MINOR, FEATURE_DIRTY_LOG | FEATURE_HAND_OVER);
    case CREATE: return create(vm, r);
    case DELETE: case MOVE: case SET_FLAGS: return s ? change(vm, s, r) : REFUSE(NO_SUCH_SLOT);
    case DIRTY_LOG: return s ? dirty_log(vm, s, f[ADDRESS]) : REFUSE(NO_SUCH_SLOT);
    case TRACK: return track(vm, f[SPACE], f[ADDRESS], f[TRACKING]);
    case MEMORY_TYPE: return memory_type(f[REGISTER]);
    case STATS: return stats(vm);
    case IDLE: return s ? ANSWER(TOLD_DONE) : REFUSE(NO_SUCH_SLOT);     /* P43: it does not know which are */
    case PREFAULT: return f[PAGES] ? ANSWER(TOLD_LEFT, f[PAGES]) : ANSWER(TOLD_DONE);       /* its runs are long */
    case HAND_OVER: return hand_over(vm, f[ROW]);
    case TAKE_OVER: return go_on(vm);
    case WHY: case TELL: return ANSWER(TOLD_DONE);                      /* nor has it lines for people */
    default: return REFUSE(UNKNOWN_POLICY);
    }
}
