//! Whether the kernel will take a pager's ELF file: what it would refuse is said here, before anything is booted.

use anyhow::{Context, bail, ensure};
use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use ipc_proto::layout::{STACK_SIZE, STACK_TOP};
use std::ops::Range;

/// The size of a page.
const PAGE: u64 = 4096;
/// Where images lie (SPEC, section 11).
const ADDRESSES: Range<u64> = PAGE..STACK_TOP - STACK_SIZE - PAGE;

/// Checks the bytes of a file.
///
/// # Errors
/// What is wrong with them, where, and what is allowed.
pub fn check(bytes: &[u8]) -> anyhow::Result<()> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(bytes).context("it is no 64-bit little-endian ELF file")?;
    ensure!(elf.ehdr.e_machine == EM_X86_64, "it is for machine {}, and not for x86-64", elf.ehdr.e_machine);
    ensure!(
        elf.ehdr.e_type == ET_EXEC,
        "it is no static executable: its type is {}, and must be ET_EXEC ({ET_EXEC}); link it with -static -no-pie",
        elf.ehdr.e_type
    );
    let mut pages: Vec<Range<u64>> = Vec::new();
    let mut entered = false;
    for segment in elf.segments().context("it has no program headers")?.iter().filter(|it| it.p_type == PT_LOAD) {
        let (at, len) = (segment.p_vaddr, segment.p_memsz);
        let name = format!("the segment of {len:#x} bytes at {at:#x}");
        elf.segment_data(&segment).with_context(|| format!("{name} is not in the file"))?;
        ensure!(
            at.is_multiple_of(PAGE),
            "{name} does not begin on a page: its address must be a multiple of {PAGE:#x}"
        );
        let end = at.checked_add(len).filter(|end| at >= ADDRESSES.start && *end <= ADDRESSES.end);
        let Some(end) = end else {
            bail!("{name} must lie between {:#x} and {:#x}", ADDRESSES.start, ADDRESSES.end);
        };
        let (writable, executable) = (segment.p_flags & PF_W != 0, segment.p_flags & PF_X != 0);
        ensure!(!(writable && executable), "{name} is both writable and executable");
        let own = at..end.next_multiple_of(PAGE);
        let shared = pages.iter().any(|other| other.start < own.end && own.start < other.end);
        ensure!(!shared, "{name} shares a page with another one");
        entered |= executable && (at..end).contains(&elf.ehdr.e_entry);
        pages.push(own);
    }
    ensure!(entered, "it is entered at {:#x}, and no executable segment is there", elf.ehdr.e_entry);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    /// A file with one segment: its address, its flags, and where the file is entered.
    fn file(kind: u8, at: u64, flags: u32, entry: u64) -> Vec<u8> {
        let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, kind, 0, 62, 0, 1, 0, 0, 0];
        bytes.extend([entry, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
        bytes.extend([1u32, flags].iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend([0, at, at, 120, 0x2000, 0x1000].iter().flat_map(|word| word.to_le_bytes()));
        bytes
    }

    #[test]
    fn what_the_kernel_takes_is_taken() {
        check(&file(2, 0x40_0000, 5, 0x40_0010)).expect("a good file");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let wrong = [
            (file(3, 0x40_0000, 5, 0x40_0010), "must be ET_EXEC (2)"),
            (file(2, 0x40_714c, 5, 0x40_7150), "the segment of 0x2000 bytes at 0x40714c does not begin on a page"),
            (file(2, 0, 5, 0x10), "must lie between 0x1000 and 0x2ffbf000"),
            (file(2, 0x2ffb_e000, 5, 0x2ffb_e000), "must lie between 0x1000 and 0x2ffbf000"),
            (file(2, 0x40_0000, 7, 0x40_0010), "is both writable and executable"),
            (file(2, 0x40_0000, 4, 0x40_0010), "it is entered at 0x400010, and no executable segment is there"),
            (b"#!/bin/sh".to_vec(), "it is no 64-bit little-endian ELF file"),
        ];
        for (bytes, told) in wrong {
            let error = format!("{:#}", check(&bytes).expect_err(told));
            assert!(error.contains(told), "{error} should have {told}");
        }
    }
}
