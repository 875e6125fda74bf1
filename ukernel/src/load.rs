//! A task's images: what is in them, and how one becomes what the task sees, at boot and each time that it is started again.

use crate::arch::boot_memory::BootFrames;
use crate::arch::paging::{PhysMap, UserPages};
use crate::ept::{Entry, Format, Tree};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
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

    /// Makes a stack.
    pub fn stack(&mut self) -> Result<(), Why> {
        for at in (STACK_TOP - STACK_SIZE..STACK_TOP).step_by(4096) {
            self.map_new(at, Rights::READ | Rights::WRITE)?;
        }
        Ok(())
    }

    /// Takes an ELF image in: reserves frames for its pages and makes tables for them. Nothing of it is seen yet.
    pub fn image(&mut self, bytes: &'static [u8]) -> Result<Image, Why> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(bytes).map_err(|_| "its image is no 64-bit ELF file")?;
        if elf.ehdr.e_type != ET_EXEC {
            return Err("its image is not a static executable");
        }
        let mut image = Image { bytes, frames: Pfn(0), entry: elf.ehdr.e_entry };
        let mut pages = 0;
        for segment in elf.segments().ok_or("its image has no segments")?.iter().filter(|it| it.p_type == PT_LOAD) {
            let content = elf.segment_data(&segment).map_err(|_| "a segment is not in the file")?;
            if segment.p_flags & (PF_W | PF_X) == PF_W | PF_X {
                return Err("a segment is writable and executable");
            }
            let (at, len) = (segment.p_vaddr, segment.p_memsz);
            let end = at.checked_add(len).filter(|end| at >= IMAGE.start && *end <= IMAGE.end);
            let end = end.ok_or("a segment lies outside of what images may use")?;
            if !at.is_multiple_of(4096) || content.len() as u64 > len {
                return Err("a segment does not begin on a page");
            }
            pages += (end - at).div_ceil(4096);
        }
        image.frames = self.frames.take(pages, 1).ok_or("no memory for its pages")?;
        let mut made = Ok(());
        image.each_page(|at, pfn, rights, content| {
            made = made.and_then(|()| self.map(at, pfn, rights));
            self.memory.fill(pfn, content);
        });
        made?;
        image.take_off(self.root, self.memory);
        Ok(image)
    }
}

/// An ELF image that was found to be one, and the frames that its pages have.
pub struct Image {
    bytes: &'static [u8],
    /// The first of the frames: one for each page, in the order of the segments.
    frames: Pfn,
    /// Where the task begins.
    pub entry: u64,
}

impl Image {
    /// Visits its pages: address, frame, rights, content. The file lies where nobody writes, so that what was found once is still so.
    fn each_page(&self, mut visit: impl FnMut(u64, Pfn, Rights, &[u8])) {
        let mut pfn = self.frames.0;
        let Ok(elf) = ElfBytes::<LittleEndian>::minimal_parse(self.bytes) else { return };
        for segment in elf.segments().iter().flat_map(|all| all.iter()).filter(|it| it.p_type == PT_LOAD) {
            let bytes = elf.segment_data(&segment).unwrap_or_default();
            let mut rights = if segment.p_flags & PF_W != 0 { Rights::READ | Rights::WRITE } else { Rights::READ };
            rights.set(Rights::EXECUTE, segment.p_flags & PF_X != 0);
            let mut content = bytes.chunks(4096);
            for at in (segment.p_vaddr..segment.p_vaddr + segment.p_memsz).step_by(4096) {
                visit(at, Pfn(pfn), rights, content.next().unwrap_or_default());
                pfn += 1;
            }
        }
    }

    /// The task sees the image. It is as it was made: so it was at boot, and [`Self::take_off`] leaves it so.
    pub fn put_on(&self, root: Pfn, memory: &PhysMap) {
        self.each_entry(root, memory, |entry, pfn, rights, _| {
            entry.store(UserPages::leaf(pfn, 1, rights, MemType::WriteBack), Relaxed);
        });
    }

    /// The task does not see the image any more. What it has written of it is written anew: the pages with their D bits set.
    pub fn take_off(&self, root: Pfn, memory: &PhysMap) {
        self.each_entry(root, memory, |entry, pfn, _, content| {
            if matches!(UserPages::decode(entry.swap(0, Relaxed), 1), Entry::Leaf(leaf) if leaf.dirty) {
                memory.fill(pfn, content);
            }
        });
    }

    /// Visits its pages with their entries, whose tables are there: one walk for each table.
    fn each_entry(&self, root: Pfn, memory: &PhysMap, mut visit: impl FnMut(&AtomicU64, Pfn, Rights, &[u8])) {
        let (tree, mut last) = (Tree::<UserPages, _>::new(root, memory), None);
        self.each_page(|at, pfn, rights, content| {
            let same = last.filter(|(block, _)| *block == at >> 21);
            let (_, table) = *last.insert(same.unwrap_or_else(|| (at >> 21, tree.find(at >> 12, 1).table)));
            visit(&table[(at >> 12) as usize % table.len()], pfn, rights, content);
        });
    }
}
