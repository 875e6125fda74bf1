//! The fixed mappings of a task, as safe types. See [`ipc_proto::layout`].
#![expect(unsafe_code, reason = "the kernel maps these pages at fixed addresses")]

use crate::pairs::{self, NEXT};
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};
use core::{ptr, slice};
use ipc_proto::layout::{self, BootInfo, ModuleInfo};
use ipc_proto::manifest::{LogLevel, MAX_VCPUS, MAX_VMS, in_place};
use ipc_proto::state::VcpuState;
use ipc_proto::wire;

/// Bytes in a page.
pub(crate) const PAGE: usize = 4096;

/// What the kernel told this task at its start.
pub struct Task {
    /// Addresses, frames, modules.
    pub info: BootInfo,
    /// How much is printed.
    pub(crate) log: LogLevel,
    /// This task's entry.
    entry: in_place::Task<'static>,
    /// The tasks' entries.
    tasks: in_place::Entries<'static, in_place::Task<'static>>,
    /// The VMs' entries.
    vms: in_place::Entries<'static, in_place::Vm<'static>>,
    /// The bytes of the whole system.
    manifest: &'static [u8],
}

impl Task {
    /// Reads boot information and manifest from where the kernel mapped them.
    pub(crate) fn read() -> Self {
        // SAFETY: the kernel maps one read-only page there for as long as the task lives.
        let page = unsafe { slice::from_raw_parts(layout::BOOT_INFO as *const u8, PAGE) };
        let len = usize::from(u16::from_le_bytes([page[0], page[1]]));
        let info: BootInfo = wire::decode(&page[2..2 + len]).expect("boot information of this version");
        // SAFETY: the kernel maps that many bytes read-only there for as long as the task lives.
        let manifest = unsafe { slice::from_raw_parts(layout::MANIFEST as *const u8, info.manifest_len as usize) };
        let (head, tasks) = in_place::open(manifest).expect("a manifest of this version");
        let mut behind = tasks.clone();
        let entry = behind.nth(usize::from(info.task)).expect("an entry for each task");
        let vms = behind.vms().expect("VMs behind the tasks");
        Self { info, log: head.log, entry, tasks, vms, manifest }
    }

    /// This task's entry in the manifest.
    #[must_use]
    pub const fn entry(&self) -> &in_place::Task<'static> {
        &self.entry
    }

    /// The VMs' entries in the manifest.
    #[must_use]
    pub fn vms(&self) -> in_place::Entries<'static, in_place::Vm<'static>> {
        self.vms.clone()
    }

    /// The entry of the task that pages VM `vm`.
    #[must_use]
    pub fn pager(&self, vm: usize) -> Option<in_place::Task<'static>> {
        let name = self.vms().nth(vm)?.pager?;
        self.tasks.clone().find(|task| task.name == name)
    }

    /// The whole system, for who needs all of it.
    ///
    /// # Panics
    /// When it is of another version.
    #[must_use]
    pub fn manifest(&self) -> in_place::Manifest<'static> {
        wire::decode(self.manifest).expect("a manifest of this version")
    }

    /// The bytes of the boot module `name`, if the manifest gave it to this task.
    #[must_use]
    pub fn module(&self, name: &str) -> Option<&'static [u8]> {
        self.info.modules.iter().find(|module| module.name == name).map(bytes_of)
    }
}

fn bytes_of(module: &ModuleInfo) -> &'static [u8] {
    // SAFETY: the kernel maps that many bytes read-only there for as long as the task lives.
    unsafe { slice::from_raw_parts(module.address as *const u8, module.len as usize) }
}

/// Copies from the message page.
pub fn read_message(bytes: &mut [u8]) {
    read_message_at(0, bytes);
}

/// Copies from the message page from `offset` on; what would lie beyond it is left as it is.
pub fn read_message_at(offset: usize, bytes: &mut [u8]) {
    let (from, len) = message(offset, bytes.len());
    // SAFETY: the kernel maps the page read-write for as long as the task lives, the task has one thread, and the kernel touches
    // the page only inside of system calls: no Rust object lies there, and no reference to it is ever made.
    unsafe { ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), len) };
}

/// Where byte `offset` of the message page is, and how many of `len` bytes lie in the page from there on.
fn message(offset: usize, len: usize) -> (*mut u8, usize) {
    let offset = offset.min(PAGE);
    ((layout::MESSAGE as *mut u8).wrapping_add(offset), len.min(PAGE - offset))
}

/// Copies into the message page.
pub fn write_message(bytes: &[u8]) {
    write_message_at(0, bytes);
}

/// Copies into the message page from `offset` on; what would lie beyond it is cut.
pub fn write_message_at(offset: usize, bytes: &[u8]) {
    let (to, len) = message(offset, bytes.len());
    // SAFETY: as in `read_message_at`.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, len) };
}

/// The state page of a vCPU that this task serves. Taken once for each vCPU.
pub struct StatePage(&'static mut VcpuState);

impl StatePage {
    /// The page of vCPU `vcpu` of VM `vm`.
    ///
    /// # Panics
    /// When it has been taken before, or does not exist.
    #[must_use]
    pub fn take(vm: usize, vcpu: usize) -> Self {
        static TAKEN: [AtomicBool; MAX_VMS * MAX_VCPUS] = [const { AtomicBool::new(false) }; MAX_VMS * MAX_VCPUS];
        let index = vm * MAX_VCPUS + vcpu;
        assert!(!TAKEN[index].swap(true, Ordering::Relaxed), "state page {index} is taken once");
        let address = layout::VCPU_STATE + index as u64 * 4096;
        // SAFETY: the kernel maps the page read-write for the VM's server as long as it lives; `TAKEN` makes the
        // reference unique. The kernel changes the page only while a system call of this thread is under way.
        Self(unsafe { &mut *(address as *mut VcpuState) })
    }
}

impl core::ops::Deref for StatePage {
    type Target = VcpuState;
    fn deref(&self) -> &VcpuState {
        self.0
    }
}

impl core::ops::DerefMut for StatePage {
    fn deref_mut(&mut self) -> &mut VcpuState {
        self.0
    }
}

/// The memory of a VM, as its server sees it: every first touch of a page is a fault that the pager answers.
///
/// An access to an address that is no RAM stops this task: ask the slots first.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    base: u64,
    size: u64,
}

impl Window {
    /// The window on VM `vm`, of which `size` bytes from guest-physical 0 on may be touched.
    #[must_use]
    pub const fn new(vm: usize, size: u64) -> Self {
        Self { base: layout::WINDOW + vm as u64 * layout::WINDOW_STRIDE, size }
    }

    #[inline(always)]
    fn place(&self, gpa: u64, len: usize) -> Option<*mut u8> {
        let end = gpa.checked_add(len as u64)?;
        (end <= self.size).then(|| (self.base + gpa) as *mut u8)
    }

    /// Reads guest memory; false when it is not all in the window.
    #[inline(always)]
    #[must_use]
    pub fn read(&self, gpa: u64, bytes: &mut [u8]) -> bool {
        let Some(from) = self.place(gpa, bytes.len()) else { return false };
        // SAFETY: `place` keeps inside the window, which belongs to the guest: no Rust object lies there. The copy is
        // of bytes, for which every value is valid.
        unsafe { ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
        true
    }

    /// Writes guest memory; false when it is not all in the window.
    #[must_use]
    pub fn write(&self, gpa: u64, bytes: &[u8]) -> bool {
        let Some(to) = self.place(gpa, bytes.len()) else { return false };
        // SAFETY: as in `read`.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        true
    }
}

/// The bytes of a frame that this task owns.
#[derive(Clone, Copy, Debug)]
pub struct FrameBytes(*mut u8);

/// The bytes of frame `pfn` in this task.
#[must_use]
pub const fn frame(pfn: u64) -> FrameBytes {
    FrameBytes((layout::FRAMES + pfn * 4096) as *mut u8)
}

impl FrameBytes {
    /// Fills the frame with zeros. Touching a frame that the task does not own stops the task.
    #[inline(always)]
    pub fn clear(self) {
        self.fill(0);
    }

    /// Fills the frame with a word of 8 bytes.
    #[inline(always)]
    pub fn fill(self, value: u64) {
        // SAFETY: the range of `layout::FRAMES` holds frames only: no Rust object of this task lies there, and a frame
        // that is not this task's is not mapped.
        unsafe {
            core::arch::asm!("rep stosq", inout("rcx") 512u64 => _, inout("rdi") self.0 => _, in("rax") value, options(nostack));
        }
    }

    /// Word `index` of the frame's 1024; the index wraps.
    #[inline(always)]
    #[must_use]
    pub fn word(self, index: usize) -> u32 {
        // SAFETY: as in `clear`; the index stays inside the frame, whose words are aligned.
        unsafe { self.0.cast::<u32>().wrapping_add(index & 1023).read() }
    }

    /// Writes word `index` of the frame's 1024; the index wraps.
    #[inline(always)]
    pub fn set_word(self, index: usize, value: u32) {
        // SAFETY: as in `word`.
        unsafe { self.0.cast::<u32>().wrapping_add(index & 1023).write(value) };
    }

    /// Writes pair `index` of the frame's 512; the index wraps.
    #[inline(always)]
    pub fn set_pair(self, index: usize, value: u64) {
        self.pairs()[index & 511].set(value);
    }

    /// Its words, two by two.
    #[inline(always)]
    const fn pairs(self) -> &'static [Cell<u64>; 512] {
        // SAFETY: as in `clear`: for as long as the task lives the frame is its memory, which is aligned, and where no other
        // reference is kept; a `Cell` lets it change.
        unsafe { &*self.0.cast() }
    }

    /// Whether `count` words from `index` on are all 0. What would lie behind the frame is left out.
    #[inline(always)]
    #[must_use]
    pub fn is_zero(self, index: usize, count: usize) -> bool {
        let behind = index + count;
        let pairs = self.pairs().get(index.div_ceil(2)..behind / 2).unwrap_or_default();
        let mut seen = pairs.iter().fold(0, |seen, pair| seen | pair.get());
        if (index | behind) % 2 == 1 && count > 0 {
            seen |= u64::from(self.word(index) | self.word(behind - 1));
        }
        seen == 0
    }

    /// Pair `index` of the frame's 512; the index wraps.
    #[inline(always)]
    #[must_use]
    pub fn pair(self, index: usize) -> u64 {
        self.pairs()[index & 511].get()
    }

    /// How many words from `index` on are all 0, of at most `most`. What would lie behind the frame is left out.
    #[inline]
    #[must_use]
    pub fn zeros(self, index: usize, most: usize) -> usize {
        pairs::zeros(self.pairs(), index, most)
    }

    /// How many words from `index` on are `value` and the numbers behind it, of at most `most`. What would lie behind the
    /// frame is left out.
    #[inline]
    #[must_use]
    pub fn row(self, index: usize, most: usize, value: u32) -> usize {
        pairs::row(self.pairs(), index, most, value)
    }

    /// Writes `value` and the numbers behind it into `count` words from `index` on. What would lie behind the frame is
    /// left out.
    #[inline(always)]
    pub fn set_row(self, index: usize, count: usize, value: u32) {
        let behind = index + count;
        if (index | behind) % 2 == 1 && count > 0 {
            self.set_word(index, value);
            self.set_word(behind - 1, value + count as u32 - 1);
        }
        let value = value + (index % 2) as u32;
        let mut both = u64::from(value) | u64::from(value + 1) << 32;
        for pair in self.pairs().get(index.div_ceil(2)..behind / 2).unwrap_or_default() {
            pair.set(both);
            both += NEXT;
        }
    }

    /// Copies the frame out.
    pub fn read(self, page: &mut [u8; 4096]) {
        // SAFETY: as in `clear`.
        unsafe { ptr::copy_nonoverlapping(self.0, page.as_mut_ptr(), 4096) };
    }

    /// Copies `page` into the frame.
    pub fn write(self, page: &[u8; 4096]) {
        // SAFETY: as in `clear`.
        unsafe { ptr::copy_nonoverlapping(page.as_ptr(), self.0, 4096) };
    }

    /// Copies bytes out, from word `index` on; what would lie behind the frame is left out.
    #[inline]
    pub fn read_at(self, index: usize, bytes: &mut [u8]) {
        let index = index & 1023;
        let len = bytes.len().min(4096 - index * 4);
        // SAFETY: as in `clear`; the bytes lie inside of the frame and of `bytes`.
        unsafe { ptr::copy_nonoverlapping(self.0.wrapping_add(index * 4), bytes.as_mut_ptr(), len) };
    }

    /// Copies bytes in, from word `index` on; what would lie behind the frame is left out.
    #[inline]
    pub fn write_at(self, index: usize, bytes: &[u8]) {
        let index = index & 1023;
        let len = bytes.len().min(4096 - index * 4);
        // SAFETY: as in `read_at`.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.wrapping_add(index * 4), len) };
    }
}
