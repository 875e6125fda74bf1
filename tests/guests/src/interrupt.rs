//! The interrupt table: exceptions that a check provokes, the timer interrupt, one software interrupt.

use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Where the first 8259 is told to deliver: IRQ 0 becomes this vector.
pub const FIRST_IRQ: u8 = 0x20;
/// The software interrupt of the checks.
pub const SOFTWARE: u8 = 0x30;
const VECTORS: usize = 0x31;

/// Timer interrupts so far.
pub static TIMER: AtomicU64 = AtomicU64::new(0);
/// An instruction, and the timer interrupts that came just before it.
pub static AWAITED: AtomicU64 = AtomicU64::new(0);
/// How many these are.
pub static AWAITING: AtomicU64 = AtomicU64::new(0);
/// Software interrupts so far.
pub static SOFT: AtomicU64 = AtomicU64::new(0);

static RESUME: AtomicU64 = AtomicU64::new(0);
static CAUGHT: AtomicU64 = AtomicU64::new(NOTHING);
static ERROR: AtomicU64 = AtomicU64::new(0);
const NOTHING: u64 = u64::MAX;

/// An exception that a check provoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caught {
    /// Its vector.
    pub vector: u64,
    /// Its error code, 0 if it has none.
    pub error: u64,
}

/// General protection with error code 0: what an unknown MSR raises.
pub const GENERAL_PROTECTION: Caught = Caught { vector: 13, error: 0 };

/// Between [`catch`] and [`Guard::finish`] an exception goes on where the slot says.
pub struct Guard(());

/// The next exception is caught.
#[must_use]
pub fn catch() -> Guard {
    CAUGHT.store(NOTHING, Relaxed);
    Guard(())
}

impl Guard {
    /// Where the address goes at which to go on.
    #[must_use]
    pub fn slot(&self) -> *mut u64 {
        RESUME.as_ptr()
    }

    /// What was caught, as an error.
    ///
    /// # Errors
    /// The exception.
    pub fn finish(self) -> Result<(), Caught> {
        RESUME.store(0, Relaxed);
        match CAUGHT.load(Relaxed) {
            NOTHING => Ok(()),
            vector => Err(Caught { vector, error: ERROR.load(Relaxed) }),
        }
    }
}

// One stub a vector, 16 bytes apart: all leave the same frame, with an error code of 0 where the CPU pushes none.
global_asm!(
    ".balign 16",
    "interrupt_stubs:",
    ".set vector, 0",
    ".rept 0x31",
    "  .balign 16",
    "  .if (vector != 8) && (vector < 10 || vector > 14) && (vector != 17) && (vector != 21)",
    "  pushq $0",
    "  .endif",
    "  pushq $vector",
    "  jmp interrupt_common",
    "  .set vector, vector + 1",
    ".endr",
    "interrupt_common:",
    "  push %rax; push %rbx; push %rcx; push %rdx; push %rsi; push %rdi; push %rbp; push %r8",
    "  push %r9; push %r10; push %r11; push %r12; push %r13; push %r14; push %r15",
    "  mov %rsp, %rdi",
    "  cld",
    "  call interrupt",
    "  pop %r15; pop %r14; pop %r13; pop %r12; pop %r11; pop %r10; pop %r9; pop %r8",
    "  pop %rbp; pop %rdi; pop %rsi; pop %rdx; pop %rcx; pop %rbx; pop %rax",
    "  add $16, %rsp",
    "  iretq",
    options(att_syntax)
);

/// What the stubs leave on the stack.
#[repr(C)]
struct Frame {
    registers: [u64; 15],
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// Called by the stubs.
#[unsafe(no_mangle)]
extern "C" fn interrupt(frame: &mut Frame) {
    if frame.vector == u64::from(FIRST_IRQ) {
        TIMER.fetch_add(1, Relaxed);
        AWAITING.fetch_add(u64::from(frame.rip == AWAITED.load(Relaxed)), Relaxed);
        crate::port::out8(0x20, 0x20);
    } else if frame.vector == u64::from(SOFTWARE) {
        SOFT.fetch_add(1, Relaxed);
    } else {
        let resume = RESUME.swap(0, Relaxed);
        if resume == 0 {
            crate::line!(
                "guest: FAILED: vector {} error {:#x} at {:#x}, cr2 {:#x}",
                frame.vector,
                frame.error,
                frame.rip,
                crate::cpu::fault_address()
            );
            crate::port::end(0xff);
        }
        CAUGHT.store(frame.vector, Relaxed);
        ERROR.store(frame.error, Relaxed);
        frame.rip = resume;
    }
}

/// The interrupt table itself: 16 bytes a gate.
#[repr(align(16))]
struct Gates(UnsafeCell<[[u64; 2]; VECTORS]>);

// SAFETY: one CPU, and the table is written before interrupts are let in for the first time.
unsafe impl Sync for Gates {}

static GATES: Gates = Gates(UnsafeCell::new([[0; 2]; VECTORS]));

unsafe extern "C" {
    static interrupt_stubs: [[u8; 16]; VECTORS];
}

/// Loads the table. Interrupts stay shut out.
pub fn install() {
    let stubs = &raw const interrupt_stubs as u64;
    for vector in 0..VECTORS {
        let stub = stubs + 16 * vector as u64;
        let low = (stub & 0xffff) | 0x10 << 16 | 0x8e00 << 32 | (stub >> 16 & 0xffff) << 48;
        // SAFETY: nothing else refers to the table yet.
        unsafe { (*GATES.0.get())[vector] = [low, stub >> 32] };
    }
    load(GATES.0.get() as u64, size_of::<Gates>() as u16 - 1);
}

/// Loads an interrupt table at `base`.
pub fn load(base: u64, limit: u16) {
    #[repr(C, packed)]
    struct Pointer(u16, u64);
    let pointer = Pointer(limit, base);
    // SAFETY: what is delivered through the table is the caller's wish; a broken one ends the machine.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(readonly, nostack, preserves_flags)) };
}
