//! Loading a task at boot: its ELF image, its stack, and the pages that the kernel gives it.

use crate::arch::boot_memory::BootFrames;
use crate::arch::paging::{PhysMap, UserPages};
use crate::ept::{Format, Tree};
use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;
use elf::ElfBytes;
use elf::abi::{ET_EXEC, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use ipc_proto::grant::{MemType, Pfn, Rights};
use ipc_proto::layout::{STACK_SIZE, STACK_TOP};

/// An address space under construction.
pub struct Builder<'a> {
    /// Where its tables and pages come from.
    pub frames: &'a mut BootFrames,
    /// The map of all RAM.
    pub memory: &'a PhysMap,
    /// The root table.
    pub root: Pfn,
}

/// Why a task cannot be loaded.
pub type Why = &'static str;

/// Where images lie: above the null page, below the stack.
const IMAGE: Range<u64> = 0x1000..STACK_TOP - STACK_SIZE - 4096;

impl Builder<'_> {
    /// Maps the frame `pfn` at `address`.
    pub fn map(&mut self, address: u64, pfn: Pfn, rights: Rights) -> Result<(), Why> {
        let tree = Tree::<UserPages, _>::new(self.root, self.memory);
        let page = address >> 12;
        let supply = || self.frames.cleared(1);
        let place = tree.extend(tree.find(page, 1), page, 1, supply).ok_or("no memory for its tables")?;
        place.table[place.index].store(UserPages::leaf(pfn, 1, rights, MemType::WriteBack), Relaxed);
        Ok(())
    }

    /// Maps a fresh cleared page at `address`.
    pub fn map_new(&mut self, address: u64, rights: Rights) -> Result<Pfn, Why> {
        let pfn = self.frames.cleared(1).ok_or("no memory for its pages")?;
        self.map(address, pfn, rights)?;
        Ok(pfn)
    }

    /// Maps the physical bytes `range` read-only at `address`.
    pub fn map_range(&mut self, address: u64, range: Range<u64>) -> Result<(), Why> {
        for (n, pfn) in (range.start / 4096..range.end.div_ceil(4096)).enumerate() {
            self.map(address + n as u64 * 4096, Pfn(pfn), Rights::READ)?;
        }
        Ok(())
    }

    /// Loads an ELF image and makes a stack. Says where the task begins.
    pub fn load(&mut self, image: &[u8]) -> Result<u64, Why> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(image).map_err(|_| "its image is no 64-bit ELF file")?;
        if elf.ehdr.e_type != ET_EXEC {
            return Err("its image is not a static executable");
        }
        let segments = elf.segments().ok_or("its image has no segments")?;
        for segment in segments.iter().filter(|segment| segment.p_type == PT_LOAD) {
            let bytes = elf.segment_data(&segment).map_err(|_| "a segment is not in the file")?;
            let writable = segment.p_flags & PF_W != 0;
            let executable = segment.p_flags & PF_X != 0;
            if writable && executable {
                return Err("a segment is writable and executable");
            }
            let mut rights = Rights::READ;
            rights.set(Rights::WRITE, writable);
            rights.set(Rights::EXECUTE, executable);
            self.load_segment(segment.p_vaddr, segment.p_memsz, bytes, rights)?;
        }
        for at in (STACK_TOP - STACK_SIZE..STACK_TOP).step_by(4096) {
            self.map_new(at, Rights::READ | Rights::WRITE)?;
        }
        Ok(elf.ehdr.e_entry)
    }

    fn load_segment(&mut self, at: u64, len: u64, bytes: &[u8], rights: Rights) -> Result<(), Why> {
        let end = at.checked_add(len).filter(|end| at >= IMAGE.start && *end <= IMAGE.end);
        let end = end.ok_or("a segment lies outside of what images may use")?;
        if !at.is_multiple_of(4096) || bytes.len() as u64 > len {
            return Err("a segment does not begin on a page");
        }
        for (n, page) in (at..end).step_by(4096).enumerate() {
            let pfn = self.map_new(page, rights)?;
            let from = (n * 4096).min(bytes.len());
            let to = (from + 4096).min(bytes.len());
            self.memory.fill(pfn, 0, &bytes[from..to]);
        }
        Ok(())
    }
}
