//! A task's images: what is in them, and how one becomes what the task sees, at boot and each time that it is started again.

use crate::arch::boot_memory::BootFrames;
use crate::arch::paging::{self, PhysMap, UserPages};
use crate::ept::{Format, Place, Tree};
use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;
use elf::ElfBytes;
use elf::abi::{ET_EXEC, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use heapless::Vec;
use ipc_proto::grant::{MemType, Pfn, Rights};
use ipc_proto::layout::{MESSAGE, STACK_SIZE, STACK_TOP};

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

/// Where images lie: above the null page, below the stack. All of it is below the first entry of a table of level 3.
const IMAGE: Range<u64> = 0x1000..STACK_TOP - STACK_SIZE - 4096;
const _: () = assert!(STACK_TOP <= 1 << 30 && MESSAGE >= 1 << 30, "what is beside images is below other entries");

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

    /// Takes an ELF image in: its pages and a stack, in tables below the root, which are the image's own.
    pub fn image(mut self, bytes: &'static [u8]) -> Result<Image, Why> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(bytes).map_err(|_| "its image is no 64-bit ELF file")?;
        if elf.ehdr.e_type != ET_EXEC {
            return Err("its image is not a static executable");
        }
        let mut image = Image { root: self.root, entry: elf.ehdr.e_entry, written: Vec::new() };
        for segment in elf.segments().ok_or("its image has no segments")?.iter().filter(|it| it.p_type == PT_LOAD) {
            let content = elf.segment_data(&segment).map_err(|_| "a segment is not in the file")?;
            let mut rights = if segment.p_flags & PF_W != 0 { Rights::READ | Rights::WRITE } else { Rights::READ };
            rights.set(Rights::EXECUTE, segment.p_flags & PF_X != 0);
            if rights == Rights::all() {
                return Err("a segment is writable and executable");
            }
            let (at, len) = (segment.p_vaddr, segment.p_memsz);
            let end = at.checked_add(len).filter(|end| at >= IMAGE.start && *end <= IMAGE.end);
            let end = end.ok_or("a segment lies outside of what images may use")?;
            if !at.is_multiple_of(4096) || content.len() as u64 > len {
                return Err("a segment does not begin on a page");
            }
            let pages = at >> 12..end.div_ceil(4096);
            let first = self.frames.take(pages.end - pages.start, 1).ok_or("no memory for its pages")?;
            let segment = Segment { pages, first, content };
            for (n, page) in segment.pages.clone().enumerate() {
                self.map(page << 12, Pfn(first.0 + n as u64), rights)?;
                segment.fill(n, self.memory);
            }
            if rights.contains(Rights::WRITE) {
                image.written.push(segment).map_err(|_| "too many of its segments are writable")?;
            }
        }
        for at in (STACK_TOP - STACK_SIZE..STACK_TOP).step_by(4096) {
            self.map_new(at, Rights::READ | Rights::WRITE)?;
        }
        Ok(image)
    }
}

/// A part of an image: its pages, the frame of the first, and what the file has for them.
struct Segment {
    pages: Range<u64>,
    first: Pfn,
    content: &'static [u8],
}

impl Segment {
    /// Makes page `n` what the file says.
    fn fill(&self, n: usize, memory: &PhysMap) {
        memory.fill(Pfn(self.first.0 + n as u64), self.content.chunks(4096).nth(n).unwrap_or_default());
    }
}

/// An ELF image that was found to be one, in frames of its own.
pub struct Image {
    /// The root of the tables by which a task sees it.
    root: Pfn,
    /// Where the task begins.
    pub entry: u64,
    /// What the task may write of it.
    written: Vec<Segment, 4>,
}

impl Image {
    /// The task with that root table sees the image, and no other: one entry decides, above all of an image's tables.
    pub fn put_on(&self, root: Pfn, memory: &PhysMap) {
        let [to, from] = [root, self.root].map(|root| Tree::<UserPages, _>::new(root, memory).find(0, 3));
        to.table[to.index].store(from.entry, Relaxed);
    }

    /// Makes anew what a task has written of it. The CPU may know the pages as written still, until it forgets the task's space.
    pub fn renew(&self, memory: &PhysMap) {
        let tree = Tree::<UserPages, _>::new(self.root, memory);
        for segment in &self.written {
            tree.runs(segment.pages.start, segment.pages.end, |page, Place { table, index, .. }, count| {
                let first = (page - segment.pages.start) as usize;
                paging::written(&table[index..index + count]).for_each(|n| segment.fill(first + n, memory));
                true
            });
        }
    }
}
