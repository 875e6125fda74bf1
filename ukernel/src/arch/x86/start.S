# The first instructions: from the Multiboot2 loader (32-bit protected mode, paging off, Multiboot2 1.6, 3.3) to the
# kernel in long mode. Maps the first 4 GiB at 0 and at PHYSMAP, and the image where it is linked; all of it is
# replaced by the kernel's own tables.

.set PHYSMAP_SLOT, 256
.set KERNEL, 0xffffffff80000000

.pushsection .boot.header, "a"
.balign 8
header:
    .long 0xe85250d6                    # Multiboot2
    .long 0                             # i386, protected mode
    .long header_end - header
    .long 0x100000000 - (0xe85250d6 + (header_end - header))
    .short 6, 1                         # modules on page boundaries
    .long 8
    .short 0, 0                         # no more tags
    .long 8
header_end:
.popsection

.pushsection .boot.text, "ax"
.code32
.globl start_32
start_32:
    cli
    cld
    mov esi, ebx
    mov esp, offset boot_stack_end
    # Long mode, or there is nothing to be done here.
    mov eax, 0x80000001
    cpuid
    test edx, 1 << 29
    jz no_long_mode
    # Four tables of 2 MiB pages: the first 4 GiB.
    mov edi, offset boot_tables_2
    mov eax, 0x83
    mov ecx, 2048
1:  mov [edi], eax
    mov dword ptr [edi + 4], 0
    add eax, 0x200000
    add edi, 8
    loop 1b
    mov edi, offset boot_table_3
    mov eax, offset boot_tables_2 + 3
    mov ecx, 4
1:  mov [edi], eax
    add eax, 4096
    add edi, 8
    loop 1b
    mov eax, offset boot_tables_2 + 3
    mov [boot_table_3_kernel + 510 * 8], eax
    mov eax, offset boot_table_3 + 3
    mov [boot_table_4], eax
    mov [boot_table_4 + PHYSMAP_SLOT * 8], eax
    mov eax, offset boot_table_3_kernel + 3
    mov [boot_table_4 + 511 * 8], eax
    mov eax, cr4
    or eax, 1 << 5                      # PAE
    mov cr4, eax
    mov eax, offset boot_table_4
    mov cr3, eax
    mov ecx, 0xc0000080                 # EFER
    rdmsr
    or eax, 1 << 8                      # LME
    wrmsr
    mov eax, cr0
    or eax, 1 << 31 | 1                 # PG, PE
    mov cr0, eax
    lgdt [boot_gdt_pointer]
    ljmp 8, offset start_64_low
no_long_mode:
    mov dx, 0xf4                        # QEMU's exit device: nothing else can be said from here
    mov al, 3
    out dx, al
    hlt
    jmp no_long_mode

.code64
start_64_low:
    mov ax, 16
    mov ss, ax
    mov ds, ax
    mov es, ax
    mov edi, esi
    movabs rax, offset start_64
    jmp rax
.balign 8
boot_gdt:
    .quad 0, 0x00209b0000000000, 0x00cf93000000ffff
boot_gdt_pointer:
    .short 23
    .long boot_gdt
.popsection

.pushsection .boot.data, "aw"
.balign 4096
boot_table_4: .skip 4096
boot_table_3: .skip 4096
boot_table_3_kernel: .skip 4096
boot_tables_2: .skip 4096 * 4
boot_stack: .skip 4096
boot_stack_end:
.popsection

.pushsection .text, "ax"
start_64:
    lea rsp, [rip + start_stack_end]
    call start
    ud2
.popsection

.pushsection .bss, "aw", @nobits
.balign 4096
start_stack: .skip 512 * 1024
start_stack_end:
.popsection
