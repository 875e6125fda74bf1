//! The entry point and the panic handler.
#![cfg_attr(target_os = "none", expect(unsafe_code, reason = "the entry point is assembly"))]

#[cfg(target_os = "none")]
core::arch::global_asm!(
    // The kernel enters here with rsp at the end of the stack and every other register zero.
    ".pushsection .text.start, \"ax\"",
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "call server_main",
    "ud2",
    ".popsection",
);

/// A server that panics says where and stops with an invalid opcode: the kernel stops the task and tells the
/// supervisor.
#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    log::error!("{info}");
    crate::call::stop()
}
