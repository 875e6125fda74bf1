//! That the guest cannot tell from its registers that a fault happened.

use crate::fresh::Fresh;
use core::arch::global_asm;
use guests::memory::Address;
use guests::report::{Report, holds};

/// So many faults the registers are carried over.
const FAULTS: u64 = 8;

pub fn check(report: &mut Report, fresh: &mut Fresh) {
    let lost = (0..FAULTS).map(|_| lost_over_fault(fresh.page())).fold(0, |all, lost| all | lost);
    report.check("general registers survive a fault", holds(lost & 1 == 0, "one of them changed"));
    report.check("vector registers survive a fault", holds(lost & 2 == 0, "one of them changed"));
    report.check("flags survive a fault", holds(lost & 4 == 0, "one of them changed"));
}

fn lost_over_fault(address: Address) -> u64 {
    // SAFETY: writes to `address` only, and keeps the registers that a callee must keep; SSE is enabled.
    unsafe { touch_with_full_registers(address) }
}

unsafe extern "C" {
    /// Loads every register with a number of its own, writes to `address`, and says which kinds have changed:
    /// 1 general, 2 vector, 4 flags.
    fn touch_with_full_registers(address: Address) -> u64;
}

global_asm!(
    ".macro fill register, n",
    "  movabs $(0x5a17c3e9d0b46000 + \\n), \\register",
    ".endm",
    ".macro compare register, n",
    "  movabs $(0x5a17c3e9d0b46000 + \\n), %rax",
    "  cmp %rax, \\register",
    "  jne 1f",
    ".endm",
    ".globl touch_with_full_registers",
    "touch_with_full_registers:",
    "  push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; push %rdi",
    "  mov %rdi, %rax",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "  fill %rcx, 0x100 + \\n",
    "  movq %rcx, %xmm\\n",
    "  punpcklqdq %xmm\\n, %xmm\\n",
    ".endr",
    "  pushq $0x8d7", // CF PF AF ZF SF OF; interrupts stay out, forward direction
    "  popfq",
    "  fill %rbx, 1; fill %rcx, 2; fill %rdx, 3; fill %rsi, 4; fill %rdi, 5; fill %rbp, 6; fill %r8, 7",
    "  fill %r9, 8; fill %r10, 9; fill %r11, 10; fill %r12, 11; fill %r13, 12; fill %r14, 13; fill %r15, 14",
    "  mov %r15, (%rax)", // the first access
    "  pushfq",
    "  cmp %rax, 8(%rsp)",
    "  jne 1f",
    "  compare %rbx, 1; compare %rcx, 2; compare %rdx, 3; compare %rsi, 4; compare %rdi, 5; compare %rbp, 6",
    "  compare %r8, 7; compare %r9, 8; compare %r10, 9; compare %r11, 10; compare %r12, 11; compare %r13, 12",
    "  compare %r14, 13; compare %r15, 14",
    "  xor %ebx, %ebx",
    "  jmp 2f",
    "1: mov $1, %ebx",
    "2:",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "  movabs $(0x5a17c3e9d0b46100 + \\n), %rax",
    "  movq %xmm\\n, %rcx",
    "  cmp %rax, %rcx",
    "  jne 3f",
    "  psrldq $8, %xmm\\n",
    "  movq %xmm\\n, %rcx",
    "  cmp %rax, %rcx",
    "  jne 3f",
    ".endr",
    "  jmp 4f",
    "3: or $2, %ebx",
    "4: pop %rcx",
    "  cmp $0x8d7, %rcx",
    "  je 5f",
    "  or $4, %ebx",
    "5: mov %ebx, %eax",
    "  pop %rdi; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx",
    "  ret",
    options(att_syntax)
);
