/* The pager as a task in ring 3: §2.1, and the addresses of §11. */
#include "pager.h"

u8 *const message = (u8 *)0x40000000;

void *frame(u64 pfn) {
    return (void *)(0x10000000000 + pfn * PAGE);
}

u64 kernel(u64 number, u64 w[6]) {
    register u64 r8 __asm__("r8") = w[2], r9 __asm__("r9") = w[3], r10 __asm__("r10") = w[4], r11 __asm__("r11") = w[5];
    __asm__ volatile("push %%rbp; mov %%rsp, %%rcx; lea 1f(%%rip), %%rdx; sysenter; 1: pop %%rbp"
                     : "+a"(number), "+D"(w[0]), "+S"(w[1]), "+r"(r8), "+r"(r9), "+r"(r10), "+r"(r11)
                     :: "rbx", "rcx", "rdx", "r12", "r13", "r14", "r15", "cc", "memory");
    w[2] = r8, w[3] = r9, w[4] = r10, w[5] = r11;
    return number;
}

/* Entered with an empty stack, from which the call makes that of an ordinary function. */
__asm__(".section .text.start, \"ax\"; .globl _start; _start: call machine_main; ud2; .text");

_Noreturn void machine_main(void) {
    u8 *info = (u8 *)0x40002000;
    start(&(struct cursor){ info + 2, info + 2 + (info[0] | info[1] << 8), false });
    serve();
}
