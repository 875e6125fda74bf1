//! Links each guest as its boot protocol loads it.

/// A guest and its link script.
const GUESTS: &[(&str, &str)] = &[
    ("touch", "flat.ld"),
    ("touch-triple-fault", "flat.ld"),
    ("touch-vectoring", "flat.ld"),
    ("touch-forever", "flat.ld"),
    ("bench", "flat.ld"),
    ("bench-runs", "flat.ld"),
    ("growth", "flat.ld"),
    ("touch-liar", "flat.ld"),
    ("work-fill", "flat.ld"),
    ("work-noise", "flat.ld"),
    ("work-random", "flat.ld"),
    ("work-shift", "flat.ld"),
    ("puppet", "flat.ld"),
    ("multiboot-check", "multiboot.ld"),
    ("checksum", "linux.ld"),
];

fn main() {
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    for (guest, script) in GUESTS {
        let script = format!("{}/link/{script}", env!("CARGO_MANIFEST_DIR"));
        println!("cargo:rerun-if-changed={script}");
        println!("cargo:rustc-link-arg-bin={guest}=-T{script}");
        println!("cargo:rustc-link-arg-bin={guest}=-zmax-page-size=4096");
    }
}
