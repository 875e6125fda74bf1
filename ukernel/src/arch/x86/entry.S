# The three ways into the kernel. Each begins at the end of this CPU's kernel stack, whose last word is the address of
# its Core; none of them comes back: the kernel leaves by one of the blocks in door.rs.

.pushsection .text, "ax"

# The general registers without rsp, in the order of their encoding.
.macro push_registers
    push r15
    push r14
    push r13
    push r12
    push r11
    push r10
    push r9
    push r8
    push rdi
    push rsi
    push rbp
    push rbx
    push rdx
    push rcx
    push rax
.endm
.macro pop_registers
    pop rax
    pop rcx
    pop rdx
    pop rbx
    pop rbp
    pop rsi
    pop rdi
    pop r8
    pop r9
    pop r10
    pop r11
    pop r12
    pop r13
    pop r14
    pop r15
.endm

# From a server, by SYSENTER: rax number; rdi rsi r8 r9 r10 r11 words; rdx, rcx its return address and stack. What is
# pushed is a Caller. The last word of the stack is the core.
.balign 16
.globl sysenter_entry
sysenter_entry:
    push 2
    popfq                               # SYSENTER clears IF but leaves DF, AC, NT and TF as the server had them
    push rcx
    push rdx
    push rax
    push r11
    push r10
    push r9
    push r8
    push rsi
    push rdi
    mov rdi, [rsp + 72]
    mov rsi, rsp
    call system_call
    ud2

# From a guest: rsp is the end of the general registers in the vCPU's state page. The frame below it is the kernel's:
# its first word is the core, its second the end of the stack.
.balign 16
.globl exit_entry
exit_entry:
    push_registers
    lea rax, [rsp - 4096]
    mov rdi, [rax]
    mov rsp, [rax + 8]
    call guest_left
    ud2

# From a task or from idle, by a trap: one stub of 16 bytes a vector.
.balign 16
.globl trap_stubs
trap_stubs:
.set vector, 0
.rept 256
.balign 16
.if vector == 2
    iretq                               # NMI: nothing to do, on a stack of its own
.else
.if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
.else
    push 0
.endif
    push vector
    jmp trap
.endif
.set vector, vector + 1
.endr

.balign 16
trap:
    push_registers
    push 2
    popfq
    mov rdi, rsp
    mov eax, [rsp + 120]                # the vector
    cmp eax, 8
    je kernel_trap
    cmp eax, 18
    je kernel_trap
    test byte ptr [rsp + 144], 3        # CS: from a task?
    jnz 1f
    cmp eax, 1
    je step_in_kernel
    cmp eax, 32                         # from the kernel: an interrupt out of idle, or a fault of the kernel
    jb kernel_trap
1:  mov rsi, [rsp + 184]
    call trapped
    ud2
kernel_trap:
    and rsp, -16
    call kernel_fault
    ud2
# A server set TF before SYSENTER: the first instruction of the kernel traps. Go on without TF.
step_in_kernel:
    btr dword ptr [rsp + 152], 8
    jmp trap_return

# To where a trap came from: rsp is the frame.
.globl trap_return
trap_return:
    pop_registers
    add rsp, 16
    iretq

# To a guest: rdi is its state page. The first time that a VMCS is entered, and after it.
.balign 16
.globl guest_launch
guest_launch:
    mov rsp, rdi
    pop_registers
    vmlaunch
    jmp refused
.balign 16
.globl guest_resume
guest_resume:
    mov rsp, rdi
    pop_registers
    vmresume
refused:                                # the CPU is still here
    lea rax, [rsp - 120 - 4096]
    mov rdi, [rax]
    mov rsp, [rax + 8]
    call entry_refused
    ud2

.popsection
