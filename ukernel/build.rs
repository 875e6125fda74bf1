//! Links the kernel as GRUB loads it.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../boot/link/ukernel.ld");
    println!("cargo:rerun-if-changed={script}");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo:rustc-link-arg-bins=-T{script}");
        println!("cargo:rustc-link-arg-bins=-zmax-page-size=4096");
    }
}
