//! Set-up: what a verb needs on this machine, and how to get it.
//!
//! Each verb asks for what it needs and nothing else. As root on Debian the missing packages are installed, saying
//! what and why; elsewhere the exact commands are printed and the verb ends with status 3.

mod debian;
mod toolchain;

pub use debian::{Package, packages, unpacked};
pub use toolchain::{Choice as ToolchainChoice, DEBIAN_RUSTC, TARGET, Toolchain, linker, toolchain};

use std::path::Path;

/// Packages by what they are for.
pub mod need {
    use super::Package;

    /// To make bootable ISO images.
    pub const IMAGE: &[Package] = &[
        Package { name: "binutils", probe: "/usr/bin/objcopy", why: "objcopy strips programs for the image" },
        Package {
            name: "grub-pc-bin",
            probe: "/usr/lib/grub/i386-pc/multiboot2.mod",
            why: "GRUB's modules for the image",
        },
        Package { name: "grub-common", probe: "/usr/bin/grub-mkrescue", why: "grub-mkrescue packs the image" },
        Package { name: "xorriso", probe: "/usr/bin/xorriso", why: "grub-mkrescue writes ISO 9660 with it" },
        Package { name: "mtools", probe: "/usr/bin/mformat", why: "grub-mkrescue formats its boot partition with it" },
    ];

    /// To emulate a machine with VMX.
    pub const BOCHS: &[Package] = &[
        Package { name: "bochs", probe: "/usr/bin/bochs-bin", why: "the emulated machine with VMX" },
        Package { name: "bochsbios", probe: "/usr/share/bochs/BIOS-bochs-latest", why: "the emulated machine's BIOS" },
        Package {
            name: "vgabios",
            probe: "/usr/share/bochs/VGABIOS-lgpl-latest",
            why: "the emulated machine's VGA BIOS",
        },
    ];

    /// To build what is written in C.
    pub const C: &[Package] = &[
        Package { name: "gcc", probe: "/usr/bin/gcc", why: "compiles the pager that is written in C" },
        Package { name: "libc6-dev", probe: "/usr/include/stdio.h", why: "the C pager's program for this host" },
        Package { name: "make", probe: "/usr/bin/make", why: "the C pager has a Makefile" },
    ];

    /// To build fuzzers.
    pub const FUZZ: &[Package] = &[Package {
        name: "g++",
        probe: "/usr/bin/c++",
        why: "compiles libFuzzer, which the crate libfuzzer-sys brings",
    }];

    /// To run QEMU.
    pub const QEMU: &[Package] = &[
        Package {
            name: "qemu-system-x86",
            probe: "/usr/bin/qemu-system-x86_64",
            why: "QEMU boots the image as users do",
        },
        Package { name: "seabios", probe: "/usr/share/seabios/bios-256k.bin", why: "QEMU's BIOS" },
    ];
}

/// Whether a program of that name is in `PATH`.
#[must_use]
pub fn has_program(name: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| Path::new(&dir).join(name).is_file()))
}
