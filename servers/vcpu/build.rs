//! Links the server as the kernel loads it, and makes the ACPI tables that it puts into the BIOS area.

#[path = "build/acpi.rs"]
mod acpi;

use std::path::PathBuf;

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../boot/link/server.ld");
    println!("cargo:rerun-if-changed={script}");
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo:rustc-link-arg-bins=-T{script}");
        println!("cargo:rustc-link-arg-bins=-zmax-page-size=4096");
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    std::fs::write(out.join("acpi.bin"), acpi::tables()).expect("the build directory can be written");
}
