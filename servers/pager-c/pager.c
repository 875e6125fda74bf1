/* Guest memory: slots, faults, the log of written pages. A slot's pages are a run of places in `notes` and `frame_of`; their
 * frames are cleared when the slot is made, and one grant shows up to a leaf table of those that lie in a row. A pager
 * that goes on where another one has handed over finds in the kernel's ledger which frame a page has (§13.4). */
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
static bool handed, taking;                     /* it stands still: it has handed over, or does not know all slots yet */
static u64 left, waiting, generation;           /* frames in no slot yet; vCPUs that wait until it goes on */
u64 first_pfn, frames, guest_frames, known_vms;

/* An operation on a VM. */
static u64 op(const struct vm *vm, u64 w[6])
{
    w[0] = HANDLE_VM + (vm - vms);
    return kernel(MEM_OP, w);
}
#define OP(vm, ...) op(vm, (u64[6]){ 0, __VA_ARGS__ })

/* Behind another pager the ledger says which frames are free. */
void pager_start(u64 incarnation, bool handed_over)
{
    generation = incarnation << 20;
    taking = handed_over;
    for (u64 n = 0; taking && n < frames && n < FRAMES; n++)
        notes[n] = TAKEN;
    for (u16 n = 0; taking && n < MAX_VMS; n++) {
        u64 w[6] = { 0, OWNED, first_pfn };
        if (known_vms >> n & 1) OP(vms + n, SET_LOG, 0);
        while (n == __builtin_ctzll(known_vms) && !op(vms + n, w) && w[0] < first_pfn + frames) {
            left += w[2] ? w[1] : 0;
            for (u64 at = w[0] - first_pfn, end = at + w[1]; at < end && at < FRAMES; at++)
                notes[at] = w[2] ? TAKEN : 0;
            w[2] = w[0] + w[1], w[1] = OWNED;
        }
    }
}

/* Of places, or of frames, the first run of so many without that note, which have it from now on; FRAMES if there is none. */
static u64 take(u8 note, u64 count)
{
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
static struct slot *slot_across(struct vm *vm, u8 space, u64 base, u64 pages, const struct slot *but)
{
    for (struct slot *s = vm->slots[space]; s < vm->slots[space] + SLOTS; s++)
        if (s->pages && s != but && base < s->base + s->pages && s->base < base + pages) return s;
    return NULL;
}

static struct slot *slot_named(struct vm *vm, u8 space, u16 id)
{
    for (struct slot *s = vm->slots[space]; s < vm->slots[space] + SLOTS; s++)
        if (s->pages && s->id == id) return s;
    return NULL;
}

/* §5.3: what the guest may do with a page. In a slot that logs it may write once the write is noted. */
static u8 rights(const struct slot *s, u8 note)
{
    bool clean = s->flags & LOG_DIRTY_PAGES && !(note & DIRTY);
    return READ | EXECUTE | (s->flags & READONLY || note & TRACKED || clean ? 0 : WRITE);
}

static void forget(struct slot *s)
{
    for (u64 n = s->place; s->pages; s->pages--, n++) {
        notes[frame_of[n]] &= ~TAKEN;
        notes[n] &= TAKEN;
    }
}

/* Shows the longest run around a page, in its leaf table, that has the same rights and frames in a row. */
static struct reply map(const struct slot *s, u64 gfn, u64 mmu_seq)
{
    u64 at = gfn - s->base, leaf = gfn % LEAVES, from = at, to = at + 1;
    const uint32_t *f = frame_of + s->place;
    u8 *note = notes + s->place, right = rights(s, note[at]);
    while (from && at - from < leaf && rights(s, note[from - 1]) == right && f[from - 1] + 1 == f[from])
        from--;
    while (to < s->pages && to - at < LEAVES - leaf && rights(s, note[to]) == right && f[to] == f[to - 1] + 1)
        to++;
    for (u64 n = from; n < to; n++)
        note[n] |= SHOWN;
    return (struct reply){ .variant = MAP, .gfn = s->base + from, .pfn = first_pfn + f[from],
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
    if ((handed || taking) && fault->origin == WINDOW) return deny(BY_POLICY);
    if (handed || taking) {
        u64 vcpu = (vm - vms) * MAX_VCPUS + fault->vcpu;
        waiting |= 1ULL << vcpu;
        return (struct reply){ .variant = PENDING, .generation = vcpu };
    }
    if (fault->kind == LOG_FULL)                /* P19: it was never switched on */
        return (struct reply){ .variant = RETRY };
    if (fault->origin == WINDOW && (!s || s->flags & PRIVATE)) return deny(s ? BY_POLICY : NO_SLOT);
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
    bool mends = !refusal || (refusal >= REFUSED_STALE && refusal <= REFUSED_LARGE_PAGE);
    if (!known || !mends || fault->origin > WINDOW || fault->kind > LOG_FULL)
        return deny(INTERNAL);                  /* P4 */
    if (refusal == REFUSED_LARGE_PAGE) {        /* another pager's: none is larger than a gigabyte */
        OP(vms + fault->vm, UNMAP, fault->gpa >> 30 << 18, 1 << 18);
        return (struct reply){ .variant = RETRY };
    }
    struct reply reply = resolve(&vms[fault->vm], fault);
    bool needs = reply.variant == MAP && (fault->tables_left < TABLES_LOW || refusal == REFUSED_NO_TABLES);
    for (u64 count = TABLES_MORE, place; needs && count && !reply.tables_count; count /= 2)
        if ((place = take(TAKEN, count)) < FRAMES)      /* P17: theirs, whatever becomes of the reply */
            reply.tables = first_pfn + place, reply.tables_count = count;
    if (needs && !reply.tables_count && (refusal == REFUSED_NO_TABLES || fault->origin == WINDOW))
        reply = deny(NO_MEMORY);                /* P16: a window that cannot show the page would ask for ever */
    vms[fault->vm].replies[reply.variant]++;
    return reply;
}

/* An operation on pages of a slot. Nothing of system-management mode's space is mapped (§8). */
static struct answer pages_op(struct vm *vm, const struct slot *s, u64 what, u64 page, u64 count)
{
    u64 refusal = s->space == NORMAL ? OP(vm, what, s->base + page, count, READ | EXECUTE) : 0;
    /* By its place in §9.1, where 9 is missing and 28 stands behind 29. */
    u64 place = refusal == 29 ? 26 : refusal == 28 ? 27 : refusal - (refusal < 9 ? 1 : 2);
    return refusal ? REFUSE(KERNEL, place) : ANSWER(TOLD_DONE);
}

/* P20: the VM's slots are others now, so what is remembered as MMIO must be asked again. */
static struct answer changed(struct vm *vm)
{
    vm->generation = OP(vm, GENERATION, ++generation) ? 0 : generation;
    return ANSWER(TOLD_DONE);
}

/* The first leaf that is mapped at `gfn` or behind it: how many pages it has, 0 when there is none before `end`. */
static u64 leaf(struct vm *vm, u64 gfn, u64 end, u64 *first, u64 *pfn)
{
    u64 w[6] = { 0, LEAF, gfn };
    bool none = op(vm, w) || w[0] >= end;
    *first = none ? end : w[0], *pfn = w[1];
    return none ? 0 : 1ULL << ((w[2] >> 10 & 3) - 1) * 9;
}

/* Gives each page of a new slot a frame: the one that the ledger has, or one of zeros. False when there are too few. */
static bool furnish(struct vm *vm, const struct slot *s)
{
    u64 spare = 0, wanted = s->pages, found = 0, count, first, pfn, at = 0;
    for (u64 gfn = s->base; taking && s->space == NORMAL && (count = leaf(vm, gfn, s->base + s->pages, &first, &pfn)); gfn = first + count)
        for (u64 n = 0; n < count && first + n - s->base < s->pages; n++, wanted--, found++) {
            notes[s->place + first + n - s->base] |= SHOWN | (s->flags & LOG_DIRTY_PAGES ? DIRTY : 0);
            frame_of[s->place + first + n - s->base] = pfn + n - first_pfn;
        }
    for (u64 n = 0; n < frames && n < FRAMES; n++)
        spare += !(notes[n] & TAKEN);
    for (u64 n = s->place; spare >= wanted && n < s->place + s->pages; n++) {
        if (notes[n] & SHOWN) continue;
        while (notes[at] & TAKEN) at++;
        notes[at] |= TAKEN;
        frame_of[n] = at;
        void *bytes = frame(first_pfn + at);
        u64 words = PAGE / 8;
        __asm__ volatile("rep stosq" : "+D"(bytes), "+c"(words) : "a"(0ULL) : "memory");
    }
    left -= spare >= wanted ? found : 0;
    return spare >= wanted;
}

static struct answer create(struct vm *vm, const struct request *r)
{
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
    for (; s->pages; s->pages--)
        notes[place++] &= TAKEN;
    return REFUSE(OUT_OF_MEMORY);
}

/* Delete, Move, SetFlags: decide, ask the kernel, then do. */
static struct answer change(struct vm *vm, struct slot *s, const struct request *r)
{
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
    if (r->variant == DELETE) forget(s);
    s->base = r->variant == MOVE ? base : s->base;
    s->flags = r->variant == SET_FLAGS ? flags : s->flags;
    return changed(vm);
}

/* The server of the VM has stopped: nothing of it is mapped any more, and its frames are free. */
void pager_vm_ended(u16 vm)
{
    for (struct slot *s = vms[vm].slots[0]; s < vms[vm].slots[0] + SPACES * SLOTS; s++)
        if (s->pages && pages_op(vms + vm, s, UNMAP, 0, s->pages).value[0] == TOLD_DONE) forget(s);
}

/* Faults are answered from now on. */
static struct answer go_on(struct vm *vm)
{
    if (taking && left) return REFUSE(NO_HAND_OVER);
    if (handed || taking)
        kernel(KEEP, (u64[6]){ 0 });
    handed = taking = false;
    for (u64 vcpu = 0; waiting >> vcpu; vcpu++)
        if (waiting >> vcpu & 1) OP(vm, READY, vcpu);
    waiting = 0;
    return ANSWER(TOLD_DONE);
}

/* Maps what was shown before and is not mapped, so that the ledger has every page that can have content. */
static bool show_all(struct vm *vm, const struct slot *s)
{
    for (u64 gfn = s->base, end = gfn + s->pages, first, pfn, count; gfn < end; gfn = first + count) {
        for (count = leaf(vm, gfn, end, &first, &pfn); gfn < first; gfn++) {
            u64 w[6] = { 0, INFO }, place, refusal;
            if (!(notes[s->place + gfn - s->base] & SHOWN) || op(vm, w)) continue;
            struct reply r = map(s, gfn, w[0]);
            u64 shape = r.count | LEVEL_4K << 10 | r.rights << 12 | WRITE_BACK << 15 | (u64)r.hidden << 18;
            while ((refusal = OP(vm, SHOW, shape, r.gfn, r.pfn, r.mmu_seq)) == REFUSED_NO_TABLES)
                if ((place = take(TAKEN, 1)) == FRAMES || OP(vm, DONATE, first_pfn + place, 1)) return false;
            if (refusal) return false;
            gfn = r.gfn + r.count - 1;
        }
        if (gfn > first) first = gfn, count = 0;
    }
    return true;
}

static struct answer hand_over(struct vm *vm, u64 number)
{
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

static struct answer dirty_log(struct vm *vm, struct slot *s, u64 from)
{
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

static struct answer track(struct vm *vm, u8 space, u64 gfn, bool on)
{
    const struct slot *s = slot_across(vm, space, gfn, 1, NULL);
    if (!s) return REFUSE(NO_SUCH_SLOT);
    struct answer answer = on ? pages_op(vm, s, PROTECT, gfn - s->base, 1) : ANSWER(TOLD_DONE);
    u8 *note = &notes[s->place + gfn - s->base];
    if (answer.value[0] == TOLD_DONE) *note = on ? *note | TRACKED : *note & ~TRACKED;
    return answer;
}

/* §8. No value changes an answer: pages are of 4 KiB. */
static struct answer memory_type(u64 reg)
{
    bool fixed = reg == 0x250 || reg == 0x258 || reg == 0x259 || (reg >= 0x268 && reg <= 0x26f);
    return fixed || (reg >= 0x200 && reg <= 0x213) || reg == 0x2ff ? ANSWER(TOLD_DONE) : REFUSE(UNKNOWN_REGISTER);
}

/* A figure: §2.1. */
static void say(const char *text, u64 number)
{
    u64 length = 0, unit = 1;
    u8 *line = message + PAGE - MAX_LINE;
    while (*text) line[length++] = *text++;
    while (number / unit >= 10) unit *= 10;
    for (; unit; unit /= 10)
        line[length++] = '0' + number / unit % 10;
    kernel(STAT, (u64[6]){ 0, length });
}

static struct answer stats(const struct vm *vm)
{
    say("pf_fixed ", vm->replies[MAP]);
    say("pf_emulate ", vm->replies[MMIO]);
    say("pf_denied ", vm->replies[DENY]);
    return ANSWER(TOLD_DONE);
}

struct answer pager_request(u16 number, const struct request *r)
{
    struct vm *vm = &vms[number % MAX_VMS];
    const u64 *f = r->field;
    if (handed && r->variant != HAND_OVER) go_on(vm);
    if (r->variant == HELLO && f[VER] != MAJOR) return REFUSE(VERSION);
    vm->greeted |= r->variant == HELLO;
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
