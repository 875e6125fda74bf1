//! The one door: where the CPU comes into the kernel and leaves it again. Each entry turns the CPU's words into a
//! reference to this CPU's [`Core`], hands over to a safe function, and leaves as that says.
#![expect(unsafe_code, reason = "entering and leaving the kernel")]

#[cfg(not(target_os = "none"))]
use super::machine;
use super::vmx::guest::Entry;
use crate::call::{self, Caller};
use crate::core::{Core, Next};
use crate::{exit, fail, fast, trap};
use core::arch::asm;
#[cfg(target_os = "none")]
use core::arch::global_asm;

#[cfg(target_os = "none")]
global_asm!(include_str!("start.S"));
#[cfg(target_os = "none")]
global_asm!(include_str!("entry.S"));

/// The registers of a task that a trap interrupted, as the stubs and the CPU pushed them.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct TrapFrame {
    /// General registers in the order of their encoding, without RSP.
    pub gprs: [u64; 15],
    /// The vector.
    pub vector: u64,
    /// The error code, or 0.
    pub error: u64,
    /// Where it was.
    pub rip: u64,
    /// Code segment: the low two bits are the ring.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
}

impl TrapFrame {
    /// The frame of a task that begins at `rip` with an empty stack that ends at `rsp`.
    #[must_use]
    pub fn start(rip: u64, rsp: u64) -> Self {
        use super::tables::{USER_CODE, USER_DATA};
        Self { rip, rsp, cs: USER_CODE.into(), ss: USER_DATA.into(), rflags: 0x202, ..Self::default() }
    }

    /// Whether a task was interrupted, not the idle kernel.
    #[must_use]
    pub const fn from_task(&self) -> bool {
        self.cs & 3 == 3
    }
}

unsafe extern "C" {
    #[cfg(target_os = "none")]
    fn sysenter_entry();
    #[cfg(target_os = "none")]
    fn exit_entry();
    #[cfg(target_os = "none")]
    fn trap_stubs();
}

macro_rules! address_of {
    ($name:ident, $symbol:ident, $what:literal) => {
        #[doc = $what]
        #[must_use]
        pub fn $name() -> u64 {
            #[cfg(target_os = "none")]
            return $symbol as *const () as u64;
            #[cfg(not(target_os = "none"))]
            0
        }
    };
}

address_of!(sysenter_address, sysenter_entry, "Where SYSENTER enters the kernel.");
address_of!(exit_address, exit_entry, "Where VM exits enter the kernel.");
address_of!(trap_address, trap_stubs, "The entry of trap 0; that of trap `n` is 16 `n` further.");

/// Called by `start.S`: the first Rust of the kernel.
///
/// # Safety
/// 1. `information` is what the Multiboot2 loader left. 2. Nobody else runs.
#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
unsafe extern "C" fn start(information: u64) -> ! {
    // SAFETY: 1.
    let information = unsafe { super::boot_memory::information(information) };
    let core = crate::boot::boot(information);
    let next = core.pick();
    leave(core, next)
}

/// Called by `entry.S` for every system call.
///
/// # Safety
/// 1. `core` is this CPU's. 2. No other reference to it lives on any CPU. 3. `caller` is what `entry.S` pushed.
#[unsafe(no_mangle)]
unsafe extern "C" fn system_call(core: *mut Core, caller: *const Caller) -> ! {
    // SAFETY: 1 and 2 make the reference valid and unique until the kernel is left.
    let core = unsafe { &mut *core };
    // SAFETY: 3; it lies on this CPU's stack, above all that is used from here on.
    let caller = unsafe { &*caller };
    match fast::called(core, caller) {
        Some(fast::Next::Guest(entry)) => enter_guest(entry),
        Some(fast::Next::Thread(message)) => deliver(message),
        None => called(core, caller),
    }
}

#[cold]
#[inline(never)]
fn called(core: &mut Core, caller: &Caller) -> ! {
    let next = call::system_call(core, caller);
    leave(core, next)
}

/// Called by `entry.S` each time a guest is left.
///
/// # Safety
/// As [`system_call`].
#[unsafe(no_mangle)]
unsafe extern "C" fn guest_left(core: *mut Core) -> ! {
    // SAFETY: 1 and 2 make the reference valid and unique until the kernel is left.
    let core = unsafe { &mut *core };
    match fast::left(core) {
        Some(fast::Next::Thread(message)) => deliver(message),
        Some(fast::Next::Guest(entry)) => enter_guest(entry),
        None => exited(core),
    }
}

#[cold]
#[inline(never)]
fn exited(core: &mut Core) -> ! {
    let next = exit::guest_left(core);
    leave(core, next)
}

/// Called by `entry.S` when the CPU refuses to enter a guest.
///
/// # Safety
/// As [`system_call`].
#[unsafe(no_mangle)]
unsafe extern "C" fn entry_refused(core: *mut Core) -> ! {
    // SAFETY: 1 and 2 make the reference valid and unique until the kernel is left.
    let core = unsafe { &mut *core };
    let next = exit::entry_refused(core);
    leave(core, next)
}

/// Called by `entry.S` for a trap out of a task, or an interrupt out of idle.
///
/// # Safety
/// As [`system_call`]; 3. `frame` is the frame that the trap pushed.
#[unsafe(no_mangle)]
unsafe extern "C" fn trapped(frame: *const TrapFrame, core: *mut Core) -> ! {
    // SAFETY: 1 and 2 make the reference valid and unique until the kernel is left.
    let core = unsafe { &mut *core };
    // SAFETY: 3; the frame is copied before anything else can be pushed there.
    let frame = unsafe { *frame };
    let next = trap::trapped(core, &frame);
    leave(core, next)
}

/// Called by `entry.S` for a fault of the kernel itself: the machine ends.
///
/// # Safety
/// `frame` is the frame that the trap pushed.
#[unsafe(no_mangle)]
unsafe extern "C" fn kernel_fault(frame: *const TrapFrame) -> ! {
    // SAFETY: the contract.
    let frame = unsafe { &*frame };
    fail::kernel_fault(frame, super::cpu::cr2())
}

/// Leaves the kernel.
#[inline(always)]
fn leave(core: &mut Core, next: Next) -> ! {
    match next {
        Next::Guest(vcpu) => enter_guest(core.prepare_guest(vcpu)),
        Next::Deliver(thread) => deliver(core.prepare_delivery(thread)),
        Next::Resume(thread) => return_to(core.prepare_return(thread)),
        Next::Idle => idle(core.stack().trap()),
    }
}

/// Enters a guest.
#[cfg(target_os = "none")]
#[inline(always)]
fn enter_guest(entry: Entry) -> ! {
    match entry {
        // SAFETY: `state` is the state page of the loaded vCPU: its registers are popped from there.
        Entry::Resume { state } => unsafe { asm!("jmp guest_resume", in("rdi") state, options(noreturn)) },
        // SAFETY: as above.
        Entry::Launch { state } => unsafe { asm!("jmp guest_launch", in("rdi") state, options(noreturn)) },
    }
}

/// Comes back from a system call. Registers without a word of the message are cleared: they hold the kernel's values.
#[inline(always)]
fn deliver(message: fast::Message) -> ! {
    let fast::Message { rip, rsp, status, words: [w0, w1, w2, w3, w4, w5] } = message;
    // SAFETY: both addresses are below the kernel's half (`Core::prepare_delivery`); STI takes effect after SYSEXIT.
    unsafe {
        asm!(
            "xor ebx, ebx", "xor ebp, ebp", "xor r12d, r12d", "xor r13d, r13d", "xor r14d, r14d", "xor r15d, r15d",
            "sti", "sysexitq",
            in("rdx") rip, in("rcx") rsp, in("rax") status,
            in("rdi") w0, in("rsi") w1, in("r8") w2, in("r9") w3, in("r10") w4, in("r11") w5,
            options(noreturn)
        )
    }
}

#[cfg(target_os = "none")]
fn return_to(frame: &TrapFrame) -> ! {
    // SAFETY: the frame is one that a trap out of a task pushed, or `TrapFrame::start`: its segments are the task's.
    unsafe { asm!("mov rsp, {}", "jmp trap_return", in(reg) frame, options(noreturn)) }
}

/// Waits for an interrupt, at the end of the kernel's stack: the frame is where `trap` expects it.
fn idle(stack: u64) -> ! {
    // SAFETY: nothing of the stack is used any more.
    unsafe { asm!("mov rsp, {}", "2: sti", "hlt", "jmp 2b", in(reg) stack, options(noreturn)) }
}

#[cfg(not(target_os = "none"))]
fn enter_guest(_: Entry) -> ! {
    machine::power_off(3)
}

#[cfg(not(target_os = "none"))]
fn return_to(_: &TrapFrame) -> ! {
    machine::power_off(3)
}

/// Sets the bits of DR6 that a debug exception would have set: `qualification` is that of the intercepted #DB.
pub(super) fn merge_dr6(qualification: u64) {
    let known: u64;
    // SAFETY: DR6 only reports.
    unsafe { asm!("mov {}, dr6", out(reg) known, options(nomem, nostack)) };
    let value = known & !0xf | qualification & 0x600f;
    // SAFETY: as above; the bits are defined ones.
    unsafe { asm!("mov dr6, {}", in(reg) value, options(nomem, nostack)) };
}
