/* A pager: receive, decide, reply. Faults come in register words, requests of a VM's server in the message page
 * (postcard.c); pager.c decides. The system call is machine.c's, or host.c's where the pager is a program. */
#include "pager.h"

/* §11: of the boot information a pager needs its frames, its VMs and the guest's width. */
void start(struct cursor *c)
{
    u64 major = get(c, 16);
    get(c, 16), get_byte(c);                            /* the minor, task */
    u64 incarnation = get(c, 32);
    get(c, 64), get(c, 32);                             /* tsc_hz, manifest_len */
    first_pfn = get(c, 64);
    frames = get(c, 64);
    for (u64 modules = get(c, 64); modules && !c->wrong; modules--) {
        for (u64 name = get(c, 64); name && !c->wrong; name--)
            get_byte(c);
        get(c, 64), get(c, 64);                         /* address, len */
    }
    for (u64 vms = get(c, 64); vms && !c->wrong; vms--)
        known_vms |= 1ULL << get_byte(c) % 64;
    u8 bits = get_byte(c);
    guest_frames = 1ULL << (bits - 12) % 64;
    get_byte(c);                                        /* fast_strings */
    bool handed_over = get(c, 64) == HANDED_OVER;
    if (c->wrong || major != MAJOR || (incarnation && !handed_over))    /* P41: what the one before knew is lost */
        __builtin_trap();
    pager_start(incarnation, incarnation);
}

/* §5: `refusal` is 0, or what the answer before was refused with. */
static void answer_fault(u64 w[6], u64 refusal)
{
    struct fault fault = { .vcpu = w[0], .vm = w[0] >> 16, .tables_left = w[0] >> 32, .origin = w[0] >> 48 & 0xff,
                           .kind = w[0] >> 56, .gpa = w[1], .qualification = w[2], .mmu_seq = w[3] };
    struct reply r = pager_fault(&fault, refusal);
    u64 shape = r.count | LEVEL_4K << 10 | r.rights << 12 | WRITE_BACK << 15 | (u64)r.hidden << 18;
    w[0] = r.variant << 56 | r.reason << 32 | (r.variant == MAP ? shape : 0);
    w[1] = r.variant == MAP ? r.gfn : r.generation;
    w[2] = r.pfn, w[3] = r.mmu_seq;
    w[4] = r.tables_count << 52 | r.tables, w[5] = 0;
}

/* §2.2 */
_Noreturn void serve(void)
{
    u64 w[6] = { 0 };
    for (u64 number = REPLY_RECEIVE | NO_REPLY;;) {
        u64 status = kernel(number, w);
        number = REPLY_RECEIVE;
        for (u16 vm = 0; status == GOT_NOTICE && w[0] & VM_ENDED && vm < MAX_VMS; vm++)
            if (w[1] >> vm & 1) pager_vm_ended(vm);
        if (status == GOT_CALL)
            w[0] = answer_bytes(w[0], w[1]);
        else if (status == GOT_NOTICE || status == REFUSED_NOT_ASKED)
            number |= NO_REPLY;
        else
            answer_fault(w, status == GOT_FAULT ? 0 : status == GOT_REFUSED ? w[5] : UNKNOWN_MESSAGE);
    }
}
