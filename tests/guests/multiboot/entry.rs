//! The header, the 32-bit entry, and the way into 64-bit mode.

use core::arch::global_asm;
use guests::report::holds;

global_asm!(
    ".pushsection .text.start, \"ax\"",
    // The header: page-aligned modules (bit 0) and memory information (bit 1) are wanted.
    ".balign 4",
    ".long 0x1badb002, 3, -(0x1badb002 + 3)",
    ".globl _start",
    ".code32",
    "_start:",
    // What the loader left, before anything changes it.
    "  mov %eax, start_state",
    "  mov %ebx, start_state + 4",
    "  mov %cr0, %eax",
    "  mov %eax, start_state + 8",
    "  mov $boot_stack_end, %esp",
    "  pushfl",
    "  pop %eax",
    "  mov %eax, start_state + 12",
    "  cld",
    // 4 GiB in pages of 2 MiB: four tables of 512 entries, one after another.
    "  mov $boot_tables + 0x2000, %edi",
    "  mov $0x83, %eax",
    "  mov $2048, %ecx",
    "1: mov %eax, (%edi)",
    "  add $8, %edi",
    "  add $0x200000, %eax",
    "  loop 1b",
    "  movl $boot_tables + 0x1000 + 3, boot_tables",
    "  movl $boot_tables + 0x2000 + 3, boot_tables + 0x1000",
    "  movl $boot_tables + 0x3000 + 3, boot_tables + 0x1008",
    "  movl $boot_tables + 0x4000 + 3, boot_tables + 0x1010",
    "  movl $boot_tables + 0x5000 + 3, boot_tables + 0x1018",
    "  mov $boot_tables, %eax",
    "  mov %eax, %cr3",
    "  mov %cr4, %eax",
    "  or $0x20, %eax", // PAE
    "  mov %eax, %cr4",
    "  mov $0xc0000080, %ecx", // EFER.LME
    "  rdmsr",
    "  or $0x100, %eax",
    "  wrmsr",
    "  mov %cr0, %eax",
    "  or $0x80000000, %eax", // PG
    "  mov %eax, %cr0",
    "  lgdt boot_gdt_pointer",
    "  ljmp $0x10, $2f",
    ".code64",
    "2: mov $0x18, %eax",
    "  mov %eax, %ds",
    "  mov %eax, %es",
    "  mov %eax, %ss",
    "  mov $boot_stack_end, %esp",
    "  mov $start_state, %edi",
    "  xor %ebp, %ebp",
    "  call multiboot_main",
    "  ud2",
    ".popsection",
    ".pushsection .data.boot, \"aw\"",
    ".balign 8",
    "boot_gdt: .quad 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff",
    "boot_gdt_pointer: .word 31",
    "  .long boot_gdt, 0",
    ".popsection",
    ".pushsection .bss.boot, \"aw\", @nobits",
    ".balign 4096",
    "boot_tables: .skip 6 * 4096",
    "boot_stack: .skip 64 * 1024",
    "boot_stack_end:",
    "start_state: .skip 16",
    ".popsection",
    options(att_syntax)
);

/// What the loader left in the CPU.
#[repr(C)]
pub struct Start {
    /// EAX.
    pub magic: u32,
    /// EBX: where the Multiboot information is.
    pub information: u32,
    cr0: u32,
    eflags: u32,
}

impl Start {
    /// Specification 3.2: CR0.PE set and CR0.PG clear, EFLAGS.VM and IF clear.
    pub fn mode(&self) -> Result<(), &'static str> {
        holds(self.cr0 & 1 == 1, "CR0.PE is clear")?;
        holds(self.cr0 >> 31 == 0, "CR0.PG is set")?;
        holds(self.eflags & (1 << 9 | 1 << 17) == 0, "EFLAGS.IF or VM is set")
    }
}

#[unsafe(no_mangle)]
extern "C" fn multiboot_main(start: &Start) -> ! {
    crate::main(start)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    guests::line!("multiboot: FAILED: {info}");
    guests::port::end(0xfe)
}
