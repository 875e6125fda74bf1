//! The boot protocol, with `linux-loader`'s `boot_params` as an oracle for where every field is.

use super::load;
use crate::acpi;
use crate::load::{Image, LoadError};
use crate::memory::{GuestMemory, RamMap};
use crate::start::place::{BOOT_DATA, COMMAND_LINE};
use crate::testing::Memory;
use crate::translate::{Width, width};
use linux_loader::loader::bootparam::{boot_params, setup_header};
use std::vec::Vec;
use vm_memory::ByteValued;

const MIB: u64 = 1 << 20;
const CODE: &[u8] = b"the protected-mode code";

/// The header of a kernel as Debian's are.
fn modern() -> setup_header {
    setup_header {
        setup_sects: 2,
        boot_flag: 0xaa55,
        jump: 0x6aeb,
        header: u32::from_le_bytes(*b"HdrS"),
        version: 0x20f,
        loadflags: 1,
        initrd_addr_max: 0x7fff_ffff,
        kernel_alignment: 0x20_0000,
        relocatable_kernel: 1,
        xloadflags: 0x7f,
        cmdline_size: 2047,
        pref_address: 0x100_0000,
        init_size: 0x40_0000,
        ..setup_header::default()
    }
}

fn bz_image(header: setup_header) -> Vec<u8> {
    let params = boot_params { hdr: header, ..boot_params::default() };
    let sectors = match header.setup_sects {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let mut file = params.as_slice()[..512 * (sectors + 1)].to_vec();
    file.extend_from_slice(CODE);
    file
}

struct Loaded {
    memory: Memory,
    params: boot_params,
    state: ipc_proto::state::VcpuState,
}

fn try_load(kernel: &[u8], modules: &[(&str, &[u8])], line: &str, mib: u64) -> Result<Loaded, LoadError> {
    let mut memory = Memory::new(mib * MIB);
    let image = Image { name: "kernel", kernel, modules, command_line: line, ram: RamMap::new(mib * MIB) };
    let state = load(&image, &mut memory)?;
    let mut params = boot_params::default();
    memory.read(BOOT_DATA, params.as_mut_slice()).unwrap();
    Ok(Loaded { memory, params, state })
}

fn bytes(memory: &Memory, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = std::vec![0; len];
    memory.read(at, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_64_bit_kernel_is_at_its_preferred_address_and_entered_at_its_64_bit_entry() {
    let Loaded { memory, params, state } = try_load(&bz_image(modern()), &[], "console=ttyS0", 64).unwrap();
    assert_eq!(bytes(&memory, 0x100_0000, CODE.len()), CODE);
    assert_eq!((state.rip, state.gprs.rsi, width(&state)), (0x100_0200, BOOT_DATA, Width::Bits64));
    assert_eq!({ params.hdr.code32_start }, 0x100_0000);
}

#[test]
fn the_zero_page_holds_header_loader_command_line_and_acpi_root() {
    let Loaded { memory, params, .. } = try_load(&bz_image(modern()), &[], "console=ttyS0", 64).unwrap();
    let header = params.hdr;
    assert_eq!(({ header.version }, { header.init_size }), (0x20f, 0x40_0000));
    assert_eq!((header.type_of_loader, { header.vid_mode }), (0xff, 0xffff));
    assert_eq!(u64::from(header.cmd_line_ptr), COMMAND_LINE);
    assert_eq!(bytes(&memory, COMMAND_LINE, 14), b"console=ttyS0\0");
    assert_eq!({ params.acpi_rsdp_addr }, acpi::RSDP);
    assert_eq!(({ header.ramdisk_image }, { header.ramdisk_size }), (0, 0));
}

#[test]
fn the_memory_map_is_the_machines() {
    let params = try_load(&bz_image(modern()), &[], "", 64).unwrap().params;
    let entries: Vec<_> = params.e820_table[..usize::from(params.e820_entries)]
        .iter()
        .map(|entry| ({ entry.addr }, { entry.size }, { entry.r#type }))
        .collect();
    assert_eq!(entries, [(0, 0x9_fc00, 1), (0x9_fc00, 0x400, 2), (0xc_0000, 0x4_0000, 2), (MIB, 63 * MIB, 1)]);
    assert_eq!({ params.alt_mem_k }, 63 * 1024);
}

#[test]
fn what_follows_the_header_in_the_file_does_not_reach_the_zero_page() {
    let mut file = bz_image(modern());
    file[0x201] = 0xff;
    for byte in &mut file[0x26c..0x400] {
        *byte = 0xee;
    }
    let params = try_load(&file, &[], "", 64).unwrap().params;
    assert_eq!(params.e820_entries, 4);
    assert_eq!({ params.e820_table[3].size }, 63 * MIB);
    assert_eq!({ params.edd_mbr_sig_buffer }[0], 0);
}

#[test]
fn the_initrd_is_as_high_as_the_kernel_allows_and_page_aligned() {
    let initrd = std::vec![0x5a; 10_000];
    let Loaded { memory, params, .. } = try_load(&bz_image(modern()), &[("initrd", &initrd)], "", 64).unwrap();
    let (at, len) = (u64::from(params.hdr.ramdisk_image), { params.hdr.ramdisk_size });
    assert_eq!((at, len), (64 * MIB - 0x3000, 10_000));
    assert_eq!(bytes(&memory, at, 10_000), initrd);

    let low = setup_header { initrd_addr_max: 0x1ff_ffff, ..modern() };
    let params = try_load(&bz_image(low), &[("initrd", &initrd)], "", 64).unwrap().params;
    assert_eq!(u64::from(params.hdr.ramdisk_image), 32 * MIB - 0x3000);
}

#[test]
fn an_initrd_that_would_lie_on_the_kernel_is_refused() {
    let initrd = std::vec![0; 45 << 20];
    let refused = try_load(&bz_image(modern()), &[("initrd", &initrd)], "", 64);
    assert!(matches!(refused, Err(LoadError::NoRoom("the initrd, above the kernel", ..))));
    let refused = try_load(&bz_image(modern()), &[("a", b"1"), ("b", b"2")], "", 64);
    assert!(matches!(refused, Err(LoadError::Modules(2, 1))));
}

#[test]
fn a_kernel_without_a_64_bit_entry_starts_in_protected_mode() {
    for (version, xloadflags) in [(0x20f, 0), (0x20a, 0x7f), (0x204, 0x7f)] {
        let header = setup_header { version, xloadflags, pref_address: MIB, ..modern() };
        let Loaded { memory, state, .. } = try_load(&bz_image(header), &[], "", 64).unwrap();
        assert_eq!((state.rip, state.gprs.rsi, width(&state)), (MIB, BOOT_DATA, Width::Bits32));
        assert_eq!((state.gprs.rbp, state.gprs.rdi, state.gprs.rbx), (0, 0, 0));
        assert_eq!(bytes(&memory, MIB, CODE.len()), CODE);
    }
}

#[test]
fn memtest_is_loaded_where_its_header_says() {
    let header = setup_header {
        version: 0x20c,
        xloadflags: 9,
        relocatable_kernel: 0,
        kernel_alignment: 0x1000,
        pref_address: MIB,
        init_size: 0x6_acf8,
        initrd_addr_max: u32::MAX,
        cmdline_size: 255,
        ..modern()
    };
    assert_eq!(try_load(&bz_image(header), &[], "nosmp", 16).unwrap().state.rip, MIB + 0x200);
}

#[test]
fn a_kernel_that_can_be_moved_is_moved_when_its_place_is_not_there() {
    let moved = setup_header { init_size: 0x10_0000, ..modern() };
    assert_eq!(try_load(&bz_image(moved), &[], "", 8).unwrap().state.rip, 0x20_0200);
    let fixed = setup_header { relocatable_kernel: 0, ..moved };
    assert!(matches!(try_load(&bz_image(fixed), &[], "", 8), Err(LoadError::NoRoom("the kernel", 0x100_0000, _))));
    assert!(matches!(try_load(&bz_image(modern()), &[], "", 4), Err(LoadError::NoRoom(..))));
}

#[test]
fn a_command_line_longer_than_the_kernel_takes_is_refused() {
    let line = "x".repeat(256);
    let header = setup_header { cmdline_size: 255, ..modern() };
    assert!(matches!(try_load(&bz_image(header), &[], &line, 64), Err(LoadError::CommandLine(256, 255))));
}

#[test]
fn what_is_no_bz_image_is_refused_in_words() {
    let good = bz_image(modern());
    let wrong = |change: fn(&mut Vec<u8>)| {
        let mut file = good.clone();
        change(&mut file);
        try_load(&file, &[], "", 64).err().map(|error| std::format!("{error}"))
    };
    assert!(wrong(|file| file[0x1fe] = 0).is_some_and(|text| text.contains("magic")));
    assert!(wrong(|file| file[0x202] = b'X').is_some_and(|text| text.contains("magic")));
    assert!(wrong(|file| file[0x211] = 0).is_some_and(|text| text.contains("zImage")));
    assert!(wrong(|file| file.truncate(0x230)).is_some_and(|text| text.contains("setup header")));
    assert!(wrong(|file| file[0x1f1] = 200).is_some_and(|text| text.contains("real-mode part")));
    assert!(wrong(Vec::clear).is_some());
}
