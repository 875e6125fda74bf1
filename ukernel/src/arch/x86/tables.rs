//! Descriptor tables: segments, interrupt gates, the task-state segment with the ports that the running task may touch.
#![expect(unsafe_code, reason = "descriptor tables")]

use super::boot_memory::Zeroed;
use core::arch::asm;
use core::mem::size_of;
use core::ptr::{addr_of, addr_of_mut};
use ipc_proto::manifest::Ports;

/// Kernel code; SYSENTER and SYSEXIT derive the other selectors from it (SDM vol. 2B, SYSEXIT).
pub const KERNEL_CODE: u16 = 0x08;
/// Kernel data.
pub const KERNEL_DATA: u16 = 0x10;
/// User code.
pub const USER_CODE: u16 = 0x28 | 3;
/// User data.
pub const USER_DATA: u16 = 0x30 | 3;
/// The task-state segment.
pub const TASK_STATE: u16 = 0x38;

/// Bytes of an I/O bitmap: one bit a port, and one byte of ones behind it (SDM vol. 1, 19.5.2).
const BITMAP: usize = 8192;
/// Where the bitmap begins in the task-state segment.
const BITMAP_OFFSET: u16 = 104;
/// A bitmap offset beyond the segment: no port at all.
const NO_BITMAP: u16 = u16::MAX;

#[repr(C, packed)]
struct TaskState {
    _reserved: u32,
    rsp: [u64; 3],
    _reserved_1: u64,
    ist: [u64; 7],
    _reserved_2: u64,
    _reserved_3: u16,
    bitmap_offset: u16,
    bitmap: [u8; BITMAP],
    ones: u8,
}

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// One CPU's tables, and the stacks for what may come at any instruction.
#[repr(C, align(4096))]
pub struct Tables {
    state: TaskState,
    gdt: [u64; 9],
    idt: [[u64; 2]; 256],
    /// The task whose ports the bitmap has, plus one.
    owner: u8,
    urgent_stack: [[u8; 4096]; 3],
}

// SAFETY: numbers, and a flag whose zero is `false`.
unsafe impl Zeroed for Tables {}

/// NMI, double fault and machine check come with a stack of their own.
const URGENT: [(usize, u64); 3] = [(2, 1), (8, 2), (18, 3)];

impl Tables {
    /// Fills the tables and gives them to the CPU. Traps from a task begin at `trap_stack`; the entry of vector `n` is
    /// `stubs + 16 n`.
    pub fn start(&'static mut self, trap_stack: u64, stubs: u64) -> &'static mut Self {
        let base = addr_of!(self.state) as u64;
        let limit = size_of::<TaskState>() as u64 - 1;
        self.gdt = [
            0,
            0x0020_9b00_0000_0000,
            0x0000_9300_0000_0000,
            0,
            0,
            0x0020_fb00_0000_0000,
            0x0000_f300_0000_0000,
            limit & 0xffff | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56,
            base >> 32,
        ];
        self.state.rsp = [trap_stack; 3];
        self.state.bitmap = [0xff; BITMAP];
        self.state.ones = 0xff;
        self.state.bitmap_offset = NO_BITMAP;
        for (vector, gate) in self.idt.iter_mut().enumerate() {
            let entry = stubs + 16 * vector as u64;
            let ist = URGENT.iter().find(|(urgent, _)| *urgent == vector).map_or(0, |(_, ist)| *ist);
            let low = entry & 0xffff | u64::from(KERNEL_CODE) << 16 | ist << 32 | 0x8e << 40;
            *gate = [low | (entry >> 16 & 0xffff) << 48, entry >> 32];
        }
        for (index, (_, ist)) in URGENT.iter().enumerate() {
            let end = addr_of!(self.urgent_stack[index]) as u64 + 4096;
            let mut stacks = self.state.ist;
            stacks[*ist as usize - 1] = end;
            self.state.ist = stacks;
        }
        self.load();
        self
    }

    fn load(&mut self) {
        let gdt = Pointer { limit: size_of::<[u64; 9]>() as u16 - 1, base: addr_of!(self.gdt) as u64 };
        let idt = Pointer { limit: 4095, base: addr_of!(self.idt) as u64 };
        // SAFETY: the tables are 'static and filled; the selectors are those of the new table, whose code segment is as
        // flat as the old.
        unsafe {
            asm!(
                "lgdt [{gdt}]",
                "lidt [{idt}]",
                "push {code}",
                "lea {scratch}, [rip + 2f]",
                "push {scratch}",
                "retfq",
                "2:",
                "mov ss, {data:x}",
                "mov ds, {zero:x}",
                "mov es, {zero:x}",
                "mov fs, {zero:x}",
                "mov gs, {zero:x}",
                "ltr {task:x}",
                gdt = in(reg) &gdt, idt = in(reg) &idt, scratch = out(reg) _,
                code = const KERNEL_CODE as u64, data = in(reg) u64::from(KERNEL_DATA), zero = in(reg) 0u64,
                task = in(reg) u64::from(TASK_STATE),
            );
        }
    }

    /// Addresses for the VMCS: GDT, IDT, task-state segment.
    pub fn addresses(&self) -> [u64; 3] {
        [addr_of!(self.gdt) as u64, addr_of!(self.idt) as u64, addr_of!(self.state) as u64]
    }

    /// Lets the running task touch `ports`. Every VM exit cuts the segment's limit back to 103 bytes (SDM vol. 3C,
    /// 28.5.2), which closes all ports, so this is done when a task's port access faults.
    pub fn open_ports(&mut self, task: u8, ports: &[Ports]) {
        if self.owner != task + 1 {
            self.owner = task + 1;
            self.state.bitmap = [0xff; BITMAP];
            for port in ports.iter().flat_map(|range| range.first..=range.last) {
                self.state.bitmap[usize::from(port / 8)] &= !(1 << (port % 8));
            }
        }
        self.state.bitmap_offset = BITMAP_OFFSET;
        let busy = addr_of_mut!(self.gdt[usize::from(TASK_STATE / 8)]);
        // SAFETY: the descriptor is this CPU's own; LTR wants it not busy and reloads its limit.
        unsafe {
            asm!(
                "btr qword ptr [{busy}], 41",
                "ltr {task:x}",
                busy = in(reg) busy, task = in(reg) u64::from(TASK_STATE),
                options(nostack),
            );
        }
    }

    /// Closes all ports: another task runs, or a guest has.
    #[inline(always)]
    pub fn close_ports(&mut self) {
        self.state.bitmap_offset = NO_BITMAP;
    }
}
