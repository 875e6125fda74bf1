//! One vCPU as the CPU sees it: its VMCS, its state page, and the registers that VMX leaves to software.
#![expect(unsafe_code, reason = "VMREAD and VMWRITE need a current VMCS")]

use super::super::boot_memory::BootFrames;
use super::super::core_local::Stack;
use super::super::paging::{PHYSMAP, PhysMap, Space};
use super::super::{cpu, door, msr, tables};
use super::root::EptCapabilities;
use super::{controls, ept_entry, instr, root, state, vector};
use crate::core::Core;
use crate::ept::TableMemory;
use core::sync::atomic::Ordering::Relaxed;
use ipc_proto::grant::{Gpa, Pfn};
use x86::vmx::vmcs::{control, guest, host, ro};

/// #DB and #AC exit: delivering them can repeat for ever without an instruction boundary (SDM vol. 3C, 26.2).
const EXCEPTIONS: u64 = 1 << 1 | 1 << 17;
/// The MSRs that stay in the CPU while servers run and are exchanged only when another vCPU is entered.
pub(super) const RESIDENT: [u32; 5] =
    [msr::IA32_STAR, msr::IA32_LSTAR, msr::IA32_CSTAR, msr::IA32_FMASK, msr::IA32_KERNEL_GSBASE];
/// The MSRs that the VMCS switches. A guest reads and writes them without an exit, as it does those above.
const SWITCHED: [u32; 5] =
    [msr::IA32_FS_BASE, msr::IA32_GS_BASE, msr::IA32_SYSENTER_CS, msr::IA32_SYSENTER_ESP, msr::IA32_SYSENTER_EIP];

/// The VMCS of the vCPU that this CPU runs. Methods need it to be current: [`GuestCpu::load`].
#[derive(Debug)]
pub(super) struct Vmcs(Pfn);

impl Vmcs {
    #[inline(always)]
    pub(super) fn read(&self, field: u32) -> u64 {
        // SAFETY: the core loads a vCPU before it touches its state, see `Core::resident`.
        unsafe { instr::vmread(field) }
    }

    /// Writes a guest-state or control field.
    #[inline(always)]
    pub(super) fn write_guest(&self, field: u32, value: u64) {
        // SAFETY: as in `read`; the callers name no host-state field but in `GuestCpu::set_host`.
        unsafe { instr::vmwrite(field, value) }
    }
}

/// An EPT violation or misconfiguration as the CPU reports it.
#[derive(Clone, Copy, Debug)]
pub struct Violation {
    /// The guest-physical address.
    pub gpa: Gpa,
    /// Exit qualification.
    pub qualification: u64,
    /// IDT-vectoring information.
    pub idt_vectoring: u32,
}

/// A vCPU.
pub struct GuestCpu {
    pub(super) vmcs: Vmcs,
    /// Three frames: what the exit path needs and [`vector`] keeps, the state page shared with the VM's server, and
    /// [`log`](super::log)'s.
    pages: Pfn,
    /// Where the exit path pushes the general registers, and the entry pops them: the state page.
    state: u64,
    eptp: u64,
    launched: bool,
    /// CR2 when the guest was left: page faults of tasks change the register.
    pub(super) cr2: u64,
    pub(super) resident: [u64; 5],
    primary: u64,
}

/// How a guest is entered, which has its registers in the state page at `state`.
pub enum Entry {
    /// For the first time since its VMCS was cleared.
    Launch {
        /// The address of its state page.
        state: u64,
    },
    /// Again.
    Resume {
        /// The address of its state page.
        state: u64,
    },
}

/// What a vCPU is made with.
pub struct Place {
    /// Its EPT.
    pub ept_root: Pfn,
    /// Its tag in the CPU's translation caches; not 0.
    pub vpid: u16,
    /// The space that its exits enter: its pager's.
    pub space: Space,
    /// The core that runs it, and its stack and tables.
    pub core: *mut Core,
    /// The core's stack.
    pub stack: Stack,
    /// Where the core's GDT, IDT and task-state segment are.
    pub tables: [u64; 3],
    /// Which MSRs exit: [`msr_bitmap`].
    pub msr_bitmap: Pfn,
}

/// Makes the bitmap of MSRs that do not exit (SDM vol. 3C, 25.6.9).
pub fn msr_bitmap(frames: &mut BootFrames) -> Option<Pfn> {
    let frame = frames.cleared(1)?;
    let memory = PhysMap::mapped();
    let words = memory.table(frame);
    words.iter().for_each(|word| word.store(u64::MAX, Relaxed));
    for number in RESIDENT.into_iter().chain(SWITCHED) {
        let half = if number < 0x2000 { 0 } else { 1024 };
        for base in [half, half + 2048] {
            let bit = base * 8 + (number & 0x1fff) as usize;
            let word = &words[bit / 64];
            word.store(word.load(Relaxed) & !(1 << (bit % 64)), Relaxed);
        }
    }
    Some(frame)
}

impl GuestCpu {
    /// Makes a vCPU: everything but guest state is set.
    pub fn new(frames: &mut BootFrames, place: &Place) -> Option<Self> {
        let vmcs = root::region(frames)?;
        let pages = frames.cleared(3)?;
        let eptp = ept_entry::pointer(place.ept_root, EptCapabilities::read());
        let primary = controls::PRIMARY.value();
        let state = PHYSMAP + ((pages.0 + 1) << 12);
        let mut guest =
            Self { vmcs: Vmcs(vmcs), pages, state, eptp, launched: false, cr2: 0, resident: [0; 5], primary };
        // SAFETY: the frame is a fresh region with the revision.
        unsafe { instr::vmclear(vmcs) }.ok()?;
        guest.make_current();
        guest.set_controls(place);
        guest.set_host(place);
        let memory = PhysMap::mapped();
        let private = memory.table(pages);
        private[0].store(place.core as u64, Relaxed);
        private[1].store(place.stack.trap(), Relaxed);
        vector::reset(pages);
        Some(guest)
    }

    fn set_controls(&mut self, place: &Place) {
        let fields = [
            (control::PINBASED_EXEC_CONTROLS, controls::PIN.value()),
            (control::PRIMARY_PROCBASED_EXEC_CONTROLS, self.primary),
            (control::SECONDARY_PROCBASED_EXEC_CONTROLS, controls::SECONDARY.value()),
            (control::VMEXIT_CONTROLS, controls::EXIT.value()),
            (control::VMENTRY_CONTROLS, controls::ENTRY.value()),
            (control::EXCEPTION_BITMAP, EXCEPTIONS),
            (control::CR0_GUEST_HOST_MASK, state::CR0_OWNED),
            (control::CR4_GUEST_HOST_MASK, !state::CR4_FREE),
            (control::MSR_BITMAPS_ADDR_FULL, place.msr_bitmap.0 << 12),
            (control::EPTP_FULL, self.eptp),
            (control::VPID, u64::from(place.vpid)),
            (guest::LINK_PTR_FULL, u64::MAX),
        ];
        fields.iter().for_each(|(field, value)| self.vmcs.write_guest(*field, *value));
    }

    fn set_host(&mut self, place: &Place) {
        let (cr0, cr4) = cpu::control_registers();
        let [gdt, idt, task_state] = place.tables;
        let fields = [
            (host::CR0, cr0),
            (host::CR3, place.space.cr3()),
            (host::CR4, cr4),
            (host::CS_SELECTOR, u64::from(tables::KERNEL_CODE)),
            (host::SS_SELECTOR, u64::from(tables::KERNEL_DATA)),
            (host::TR_SELECTOR, u64::from(tables::TASK_STATE)),
            (host::TR_BASE, task_state),
            (host::GDTR_BASE, gdt),
            (host::IDTR_BASE, idt),
            (host::IA32_PAT_FULL, msr::read(msr::IA32_PAT)),
            (host::IA32_EFER_FULL, msr::read(msr::IA32_EFER)),
            (host::IA32_SYSENTER_CS, u64::from(tables::KERNEL_CODE)),
            (host::IA32_SYSENTER_ESP, place.stack.sysenter()),
            (host::IA32_SYSENTER_EIP, door::sysenter_address()),
            (host::RSP, self.state + size_of::<ipc_proto::state::Gprs>() as u64),
            (host::RIP, door::exit_address()),
        ];
        fields.iter().for_each(|(field, value)| self.vmcs.write_guest(*field, *value));
    }

    /// The frame of the state page that the VM's server sees.
    #[must_use]
    pub const fn state_frame(&self) -> Pfn {
        Pfn(self.pages.0 + 1)
    }

    /// The frame of the log of written pages.
    pub(super) const fn log_frame(&self) -> Pfn {
        Pfn(self.pages.0 + 2)
    }

    fn make_current(&self) {
        // SAFETY: the frame is this vCPU's region. A failure would show as refused entries.
        let _ = unsafe { instr::vmptrld(self.vmcs.0) };
    }

    /// Makes this the vCPU that the CPU runs: its VMCS current, its MSRs and vector registers in place.
    pub fn load(&self) {
        self.make_current();
        vector::restore(self.pages);
        for (number, value) in RESIDENT.into_iter().zip(self.resident) {
            // SAFETY: the kernel uses none of these: it enters by SYSENTER and has no GS base.
            unsafe { msr::write(number, value) };
        }
    }

    /// Takes its MSRs and vector registers out of the CPU: another vCPU is about to be loaded.
    pub fn unload(&mut self) {
        vector::save(self.pages);
        for (number, value) in RESIDENT.into_iter().zip(&mut self.resident) {
            *value = msr::read(number);
        }
    }

    /// Notes what the host may change: to be called first after an exit.
    #[inline(always)]
    pub fn left(&mut self) {
        self.cr2 = cpu::cr2();
    }

    /// Puts back what the host may have changed: to be called last before an entry, of the vCPU that is loaded.
    #[inline(always)]
    pub fn about_to_enter(&mut self) -> Entry {
        let again = self.about_to_resume();
        if core::mem::replace(&mut self.launched, true) { again } else { Entry::Launch { state: self.state } }
    }

    /// The same, of a guest that was left before.
    #[inline(always)]
    pub fn about_to_resume(&self) -> Entry {
        if cpu::cr2() != self.cr2 {
            cpu::set_cr2(self.cr2);
        }
        self.as_it_was_left()
    }

    /// The entry of a guest that was left and for which nobody else has run: nothing needs to be put back.
    #[inline(always)]
    #[must_use]
    pub const fn as_it_was_left(&self) -> Entry {
        Entry::Resume { state: self.state }
    }

    /// The exit reason (SDM vol. 3C, table 25-19), with bit 31 for a failed entry.
    #[inline(always)]
    #[must_use]
    pub fn reason(&self) -> u32 {
        self.vmcs.read(ro::EXIT_REASON) as u32
    }

    /// The exit qualification.
    #[must_use]
    pub fn qualification(&self) -> u64 {
        self.vmcs.read(ro::EXIT_QUALIFICATION)
    }

    /// What an EPT violation was about: three VMREADs.
    #[inline(always)]
    #[must_use]
    pub fn violation(&self) -> Violation {
        Violation {
            gpa: Gpa(self.vmcs.read(ro::GUEST_PHYSICAL_ADDR_FULL)),
            qualification: self.vmcs.read(ro::EXIT_QUALIFICATION),
            idt_vectoring: self.vmcs.read(ro::IDT_VECTORING_INFO) as u32,
        }
    }

    /// Interruption information of an exit by interrupt or exception, and its error code.
    #[must_use]
    pub fn interruption(&self) -> (u32, u32) {
        let code = self.vmcs.read(ro::VMEXIT_INTERRUPTION_ERR_CODE);
        (self.vmcs.read(ro::VMEXIT_INTERRUPTION_INFO) as u32, code as u32)
    }

    /// The number of the error that refused an entry (SDM vol. 3C, 31.4). After VMRESUME with a VMCS that no entry
    /// has launched (5) the next attempt is VMLAUNCH again.
    pub fn refused(&mut self) -> u64 {
        let error = self.vmcs.read(ro::VM_INSTRUCTION_ERROR);
        self.launched = error != 5;
        error
    }

    /// The length of the instruction that exited.
    #[must_use]
    pub fn instruction_length(&self) -> u8 {
        self.vmcs.read(ro::VMEXIT_INSTRUCTION_LEN) as u8
    }

    /// RIP.
    #[inline(always)]
    #[must_use]
    pub fn rip(&self) -> u64 {
        self.vmcs.read(guest::RIP)
    }

    /// Steps over the instruction that exited.
    #[inline(always)]
    pub fn advance(&self) {
        let next = self.vmcs.read(guest::RIP).wrapping_add(self.vmcs.read(ro::VMEXIT_INSTRUCTION_LEN));
        self.vmcs.write_guest(guest::RIP, next);
    }

    /// Ends a shadow of STI or MOV SS: the instruction in it has been stepped over.
    pub fn end_shadow(&self) {
        let state = self.vmcs.read(guest::INTERRUPTIBILITY_STATE);
        self.vmcs.write_guest(guest::INTERRUPTIBILITY_STATE, state & !3);
    }

    /// NMIs are blocked again: the exit interrupted an IRET that had just unblocked them.
    pub fn block_nmi(&self) {
        let state = self.vmcs.read(guest::INTERRUPTIBILITY_STATE);
        self.vmcs.write_guest(guest::INTERRUPTIBILITY_STATE, state | 8);
    }

    /// Delivers an event with the next entry: interruption information and error code.
    pub fn deliver(&self, information: u32, code: u32) {
        self.vmcs.write_guest(control::VMENTRY_EXCEPTION_ERR_CODE, u64::from(code));
        self.vmcs.write_guest(control::VMENTRY_INTERRUPTION_INFO_FIELD, u64::from(information));
    }

    /// Sets RFLAGS.RF, as the CPU does in the flags that a fault saves (SDM vol. 3A, 6.8.3 and vol. 3B, 18.3.1.1).
    pub fn mark_fault(&self) {
        self.vmcs.write_guest(guest::RFLAGS, self.vmcs.read(guest::RFLAGS) | 1 << 16);
    }

    /// Delivers again, with the next entry, the event whose delivery the exit interrupted.
    #[cold]
    pub fn redeliver(&self, idt_vectoring: u32) {
        // Bit 12 is undefined in the vectoring information and reserved in the entry's (tables 25-17 and 25-20).
        let code = self.vmcs.read(ro::IDT_VECTORING_ERR_CODE) as u32;
        let length = self.vmcs.read(ro::VMEXIT_INSTRUCTION_LEN);
        self.vmcs.write_guest(control::VMENTRY_INSTRUCTION_LEN, length);
        self.deliver(idt_vectoring & !(1 << 12), code);
    }

    /// Delivers a #DB that the kernel intercepted: DR6 is set as the CPU would have (SDM vol. 3C, table 28-1).
    pub fn deliver_debug(&self, information: u32) {
        door::merge_dr6(self.qualification());
        self.deliver(information, 0);
    }

    /// Whether an exit follows as soon as the guest can take an interrupt.
    pub fn set_interrupt_window(&mut self, window: Window) {
        let wanted = match window {
            Window::Wanted => self.primary | controls::INTERRUPT_WINDOW,
            Window::Unwanted => self.primary & !controls::INTERRUPT_WINDOW,
        };
        if wanted != self.primary {
            self.primary = wanted;
            self.vmcs.write_guest(control::PRIMARY_PROCBASED_EXEC_CONTROLS, wanted);
        }
    }

    /// Whether one was asked for.
    #[inline(always)]
    #[must_use]
    pub const fn interrupt_window(&self) -> Window {
        if self.primary & controls::INTERRUPT_WINDOW == 0 { Window::Unwanted } else { Window::Wanted }
    }
}

/// Whether the server wants to know when the guest can take an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// It does.
    Wanted,
    /// It does not.
    Unwanted,
}

/// Forgets what the CPU has cached of the EPT with pointer `eptp`.
pub fn flush(eptp: u64) {
    instr::invept(eptp);
}
