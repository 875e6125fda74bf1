//! RAM at boot: what the loader says is there, the kernel's own tables over it, and the frame table.

use super::MODULES;
use crate::arch::boot_memory::{self, BootFrames};
use crate::arch::cpu::Features;
use crate::arch::paging::{self, KERNEL, Mapping, PHYSMAP, PhysMap};
use crate::frame::{FrameTable, Use};
use core::ops::Range;
use heapless::Vec;
use ipc_proto::grant::{MemType, Pfn, Rights};
use ipc_proto::manifest::Name;
use multiboot2::{BootInformation, MemoryAreaType};

/// What the start code maps.
const FIRST_4_GIB: u64 = 1 << 32;
/// Where the local APIC's registers may be: the kernel maps this last part below 4 GiB uncacheable.
const DEVICES: Range<u64> = 0xfe00_0000..FIRST_4_GIB;

/// A boot module.
pub struct Module {
    /// Its command line.
    pub name: Name,
    /// Where it lies physically, in bytes.
    pub range: Range<u64>,
}

impl Module {
    /// Its bytes.
    pub fn bytes(&self) -> &'static [u8] {
        boot_memory::module(self.range.clone())
    }
}

/// The boot modules; nothing when there are too many, or one's name is too long to be one.
pub fn modules(information: &BootInformation) -> Option<Vec<Module, MODULES>> {
    let mut found = Vec::new();
    for tag in information.module_tags() {
        let name = Name::try_from(tag.cmdline().ok()?).ok()?;
        let range = u64::from(tag.start_address())..u64::from(tag.end_address());
        found.push(Module { name, range }).ok()?;
    }
    Some(found)
}

fn ram<'a>(information: &'a BootInformation) -> impl Iterator<Item = Range<u64>> + 'a {
    let areas = information.memory_map_tag().map(|tag| tag.memory_areas()).unwrap_or_default();
    areas
        .iter()
        .filter(|area| area.typ() == MemoryAreaType::Available)
        .map(|area| area.start_address()..area.end_address())
}

/// Gives the CPU the kernel's own tables: all RAM, the image with its rights, the devices. Returns what is left.
pub fn map(information: &BootInformation, modules: &[Module], features: Features) -> Option<(BootFrames, PhysMap)> {
    let mut taken: Vec<Range<u64>, { MODULES + 3 }> = modules.iter().map(|module| pages(&module.range)).collect();
    let information_at = information.start_address() as u64 - PHYSMAP;
    for range in [0..1 << 20, boot_memory::image(), information_at..information.end_address() as u64 - PHYSMAP] {
        taken.push(pages(&range)).ok()?;
    }
    let low = ram(information).filter(|range| range.start < FIRST_4_GIB);
    let mut frames = BootFrames::new(low.map(|range| range.start..range.end.min(FIRST_4_GIB)), &taken);
    let memory = frames.memory();
    let root = frames.cleared(1)?;
    for mapping in mappings(information) {
        paging::map_kernel(&memory, root, mapping, &mut || frames.cleared(1))?;
    }
    paging::start(root, features);
    for range in ram(information).filter(|range| range.end > FIRST_4_GIB) {
        frames.add(range.start.max(FIRST_4_GIB)..range.end, &taken);
    }
    frames.set_kernel_root(root);
    Some((frames, memory))
}

fn pages(range: &Range<u64>) -> Range<u64> {
    range.start & !4095..range.end.next_multiple_of(4096)
}

fn mappings(information: &BootInformation) -> impl Iterator<Item = Mapping> {
    let read = Rights::READ;
    let write = Rights::READ | Rights::WRITE;
    let all_ram = ram(information).map(move |range| Mapping {
        at: PHYSMAP + range.start,
        physical: range.start,
        len: range.end - range.start,
        rights: write,
        mem_type: MemType::WriteBack,
    });
    let devices = Mapping {
        at: PHYSMAP + DEVICES.start,
        physical: DEVICES.start,
        len: DEVICES.end - DEVICES.start,
        rights: write,
        mem_type: MemType::Uncacheable,
    };
    let rights = [read | Rights::EXECUTE, read, write];
    let image = boot_memory::parts().into_iter().zip(rights).map(|(part, rights)| Mapping {
        at: part.start,
        physical: part.start - KERNEL,
        len: part.end - part.start,
        rights,
        mem_type: MemType::WriteBack,
    });
    all_ram.chain([devices]).chain(image)
}

/// Makes the frame table: all RAM is the kernel's until it is given to a task, modules stay modules.
pub fn frame_table(information: &BootInformation, modules: &[Module], frames: &mut BootFrames) -> Option<FrameTable> {
    let end = ram(information).map(|range| range.end / 4096).max()?;
    let table = FrameTable::new(frames.words(FrameTable::words(end as usize))?);
    let mark = |range: Range<u64>, used| {
        for pfn in range.start.div_ceil(4096)..range.end / 4096 {
            table.found(Pfn(pfn), used);
        }
    };
    ram(information).for_each(|range| mark(range, Use::Kernel));
    modules.iter().for_each(|module| mark(pages(&module.range), Use::Module));
    Some(table)
}
