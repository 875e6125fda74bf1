//! Where a flat guest is entered: 64-bit mode, interrupts shut out, RDI the size of RAM in bytes.

/// Makes `$main`, a `fn(ram: u64) -> !`, the guest.
#[macro_export]
macro_rules! flat_guest {
    ($main:path) => {
        core::arch::global_asm!(
            ".pushsection .text.start, \"ax\"",
            ".globl _start",
            "_start:",
            "cld",
            "xor ebp, ebp",
            "call guest_main",
            "ud2",
            ".popsection",
        );

        #[unsafe(no_mangle)]
        extern "C" fn guest_main(ram: u64) -> ! {
            let main: fn(u64) -> ! = $main;
            main(ram)
        }

        #[panic_handler]
        fn panic(info: &core::panic::PanicInfo) -> ! {
            $crate::line!("guest: FAILED: {info}");
            $crate::port::end(0xfe)
        }
    };
}
