//! Guest state between the VMCS and the state page.
#![expect(unsafe_code, reason = "the MSRs that VMX leaves to software")]

use super::super::msr;
use super::super::paging::PhysMap;
use super::guest::{GuestCpu, RESIDENT};
use super::{controls, segments};
use crate::ept::{Table, TableMemory};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use ipc_proto::state::{StateMask, VcpuState};
use x86::vmx::vmcs::{control, guest};

/// CR0 bits that the kernel owns: NE must be on in VMX operation; CD and NW would slow the host.
pub(super) const CR0_OWNED: u64 = 1 << 5 | 1 << 29 | 1 << 30;
/// CR0.NE.
const CR0_FORCED: u64 = 1 << 5;
/// CR4 bits that a guest may set by itself: VME, PVI, TSD, DE, PSE, PAE, MCE, PGE, PCE, OSFXSR, OSXMMEXCPT, UMIP,
/// FSGSBASE, SMEP, SMAP. The kernel owns every other one.
pub(super) const CR4_FREE: u64 = 0x7ff | 1 << 11 | 1 << 16 | 1 << 20 | 1 << 21;
/// CR4.VMXE.
const CR4_FORCED: u64 = 1 << 13;
/// EFER bits that a guest may have: SCE, LME, LMA, NXE.
const EFER_FREE: u64 = 1 << 0 | 1 << 8 | 1 << 10 | 1 << 11;

impl GuestCpu {
    fn page(&self) -> &'static Table {
        // The state page is never given back while the kernel runs.
        let memory: &'static PhysMap = &const { PhysMap::mapped() };
        memory.table(self.state_frame())
    }

    /// Copies guest state into the state page.
    pub fn read_state(&self, mask: StateMask) {
        let page = self.page();
        for &(group, field, offset) in &FIELDS {
            if mask.contains(group) {
                page[offset / 8].store(self.vmcs.read(field), Relaxed);
            }
        }
        if mask.contains(StateMask::CONTROL) {
            self.unshadow(page, offset_of!(VcpuState, cr0), control::CR0_READ_SHADOW, CR0_OWNED);
            self.unshadow(page, offset_of!(VcpuState, cr4), control::CR4_READ_SHADOW, !CR4_FREE);
        }
        if mask.contains(StateMask::CR2) {
            page[offset_of!(VcpuState, cr2) / 8].store(self.cr2, Relaxed);
        }
        if mask.contains(StateMask::SEGMENTS) {
            segments::read(&self.vmcs, page);
        }
        if mask.contains(StateMask::SYSCALL) {
            for (index, number) in RESIDENT.into_iter().enumerate() {
                page[offset_of!(VcpuState, star) / 8 + index].store(msr::read(number), Relaxed);
            }
        }
    }

    fn unshadow(&self, page: &[AtomicU64], offset: usize, shadow: u32, owned: u64) {
        let seen = page[offset / 8].load(Relaxed) & !owned | self.vmcs.read(shadow) & owned;
        page[offset / 8].store(seen, Relaxed);
    }

    /// Takes guest state from the state page. What the kernel owns stays as it must; what the CPU refuses shows at the
    /// entry.
    pub fn write_state(&mut self, mask: StateMask) {
        let page = self.page();
        let at = |offset: usize| page[offset / 8].load(Relaxed);
        for &(group, field, offset) in &FIELDS {
            if mask.contains(group) {
                self.vmcs.write_guest(field, at(offset));
            }
        }
        if mask.contains(StateMask::CONTROL) {
            let (cr0, cr4) = (at(offset_of!(VcpuState, cr0)), at(offset_of!(VcpuState, cr4)));
            self.vmcs.write_guest(guest::CR0, cr0 & !CR0_OWNED | CR0_FORCED);
            self.vmcs.write_guest(control::CR0_READ_SHADOW, cr0);
            self.vmcs.write_guest(guest::CR4, cr4 & CR4_FREE | CR4_FORCED);
            self.vmcs.write_guest(control::CR4_READ_SHADOW, cr4);
        }
        if mask.contains(StateMask::CR2) {
            self.cr2 = at(offset_of!(VcpuState, cr2));
        }
        if mask.contains(StateMask::EFER) {
            let efer = at(offset_of!(VcpuState, efer)) & EFER_FREE;
            let long = if efer & 1 << 10 != 0 { controls::LONG_MODE_GUEST } else { 0 };
            let entry = controls::ENTRY.value() & !controls::LONG_MODE_GUEST;
            self.vmcs.write_guest(guest::IA32_EFER_FULL, efer);
            self.vmcs.write_guest(control::VMENTRY_CONTROLS, entry | long);
        }
        if mask.contains(StateMask::SEGMENTS) {
            segments::write(&self.vmcs, page);
        }
        if mask.contains(StateMask::SYSCALL) {
            self.write_resident(page);
        }
    }

    fn write_resident(&mut self, page: &[AtomicU64]) {
        let first = offset_of!(VcpuState, star) / 8;
        for (index, (number, value)) in RESIDENT.into_iter().zip(&mut self.resident).enumerate() {
            let wanted = page[first + index].load(Relaxed);
            // LSTAR, CSTAR and KERNEL_GS_BASE fault on addresses that are not canonical; the others take 32 or 64 bits.
            let sign = (wanted as i64) << 16 >> 16;
            *value = match number {
                msr::IA32_STAR => wanted,
                msr::IA32_FMASK => wanted & 0xffff_ffff,
                _ => sign as u64,
            };
            // SAFETY: as in `load`; the value is one that the MSR takes.
            unsafe { msr::write(number, *value) };
        }
    }
}

/// State that is one VMCS field and one word of the state page.
const FIELDS: [(StateMask, u32, usize); 21] = [
    (StateMask::RIP, guest::RIP, offset_of!(VcpuState, rip)),
    (StateMask::RFLAGS, guest::RFLAGS, offset_of!(VcpuState, rflags)),
    (StateMask::RSP, guest::RSP, offset_of!(VcpuState, rsp)),
    (StateMask::CONTROL, guest::CR0, offset_of!(VcpuState, cr0)),
    (StateMask::CONTROL, guest::CR3, offset_of!(VcpuState, cr3)),
    (StateMask::CONTROL, guest::CR4, offset_of!(VcpuState, cr4)),
    (StateMask::EFER, guest::IA32_EFER_FULL, offset_of!(VcpuState, efer)),
    (StateMask::TABLES, guest::GDTR_BASE, offset_of!(VcpuState, gdtr.base)),
    (StateMask::TABLES, guest::GDTR_LIMIT, offset_of!(VcpuState, gdtr.limit)),
    (StateMask::TABLES, guest::IDTR_BASE, offset_of!(VcpuState, idtr.base)),
    (StateMask::TABLES, guest::IDTR_LIMIT, offset_of!(VcpuState, idtr.limit)),
    (StateMask::ACTIVITY, guest::INTERRUPTIBILITY_STATE, offset_of!(VcpuState, interruptibility)),
    (StateMask::ACTIVITY, guest::ACTIVITY_STATE, offset_of!(VcpuState, activity)),
    (StateMask::DEBUG, guest::DR7, offset_of!(VcpuState, dr7)),
    (StateMask::PAT, guest::IA32_PAT_FULL, offset_of!(VcpuState, pat)),
    (StateMask::SYSENTER, guest::IA32_SYSENTER_CS, offset_of!(VcpuState, sysenter_cs)),
    (StateMask::SYSENTER, guest::IA32_SYSENTER_ESP, offset_of!(VcpuState, sysenter_esp)),
    (StateMask::SYSENTER, guest::IA32_SYSENTER_EIP, offset_of!(VcpuState, sysenter_eip)),
    (StateMask::CODE, guest::CS_BASE, offset_of!(VcpuState, cs.base)),
    (StateMask::CODE, guest::CS_ACCESS_RIGHTS, offset_of!(VcpuState, cs.access)),
    (StateMask::CODE, guest::SS_ACCESS_RIGHTS, offset_of!(VcpuState, ss.access)),
];
