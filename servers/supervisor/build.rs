//! Links the server as the kernel loads it.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../boot/link/server.ld");
    println!("cargo:rerun-if-changed={script}");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo:rustc-link-arg-bins=-T{script}");
        println!("cargo:rustc-link-arg-bins=-zmax-page-size=4096");
    }
}
