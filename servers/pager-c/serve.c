/* A pager: receive, decide, reply. Faults come in register words, requests of a VM's server in the message page
 * (postcard.c); pager.c decides. The system call is machine.c's, or host.c's where the pager is a program. */
#include "pager.h"

/* §11: of the boot information a pager needs its frames, its VMs and the guest's width. */
void start(struct cursor *c) {
    u64 major = get(c, 16);
    get(c, 16), get_byte(c);                            /* the minor, task */
    u64 incarnation = get(c, 32);
    get(c, 64), get(c, 32);                             /* tsc_hz, manifest_len */
    first_pfn = get(c, 64);
    frames = get(c, 64);
    for (u64 modules = get(c, 64); modules && !c->wrong; modules--)
        get_bytes(c), get(c, 64), get(c, 64);           /* name, address, len */
    for (u64 vms = get(c, 64); vms && !c->wrong; vms--)
        known_vms |= 1ULL << get_byte(c) % 64;
    u8 bits = get_byte(c);
    guest_frames = 1ULL << (bits - 12) % 64;
    get_byte(c);                                        /* fast_strings */
    bool handed_over = get(c, 64) == HANDED_OVER;
    if (c->wrong || major != MAJOR || (incarnation && !handed_over))    /* P41: what the one before knew is lost */
        kernel(FINISH, (u64[6]){ 2 }), __builtin_trap();
    pager_start(incarnation);
}

/* §2.2 */
_Noreturn void serve(void) {
    struct words m = { { 0 } };
    for (u64 number = REPLY_RECEIVE | NO_REPLY;;) {
        u64 status = kernel(number, m.w);
        number = REPLY_RECEIVE;
        for (u16 vm = 0; status == GOT_NOTICE && m.w[0] & VM_ENDED && vm < MAX_VMS; vm++)
            if (m.w[1] >> vm & 1) pager_vm_ended(vm);
        if (status == GOT_CALL)
            m.w[0] = answer_bytes(m.w[0], m.w[1]);
        else if (status == GOT_NOTICE || status == REFUSED_NOT_ASKED)
            number |= NO_REPLY;
        else
            m = pager_fault(m.w, status == GOT_FAULT ? 0 : status == GOT_REFUSED ? m.w[5] : UNKNOWN_MESSAGE);
    }
}
