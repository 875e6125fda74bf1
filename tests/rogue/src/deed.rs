//! What no server may do. Each function must not come back, but for the first, whose every call must be refused.

use core::arch::asm;
use ipc_proto::call::End;
use ipc_proto::layout;
use ipc_proto::memop::MemOp;

/// Line status of COM1: the manifest gives it to another task.
const SOMEBODYS_PORT: u16 = 0x3fd;
/// In the code of the kernel, which is linked 2 GiB below the end of the address space.
const KERNEL: u64 = 0xffff_ffff_8011_0000;

/// Calls on objects for which it holds no handle.
pub fn ask_for_what_is_not_its_own() {
    for vm in 0..ipc_proto::manifest::MAX_VMS {
        for op in [MemOp::Info, MemOp::Read, MemOp::Unmap, MemOp::Donate] {
            if rt::mem_op(vm, op, [0, 1, 0, 0]).is_ok() {
                log::error!("was allowed {op:?} on VM {vm}");
            }
        }
        if rt::send(layout::handle::pager(vm), 16).is_ok() {
            log::error!("was allowed to call the pager of VM {vm}");
        }
    }
    for handle in [0, u16::MAX] {
        if rt::send(handle, 16).is_ok() {
            log::error!("was allowed to call handle {handle}");
        }
    }
    if rt::power_off(End::Done).is_ok() {
        log::error!("was allowed to end the system");
    }
}

/// A port that the manifest did not give.
pub fn read_port() {
    let _ = rt::port::read(SOMEBODYS_PORT);
}

/// The kernel's own memory.
pub fn read_kernel() {
    read(KERNEL);
}

/// A frame that another task, or nobody, owns.
pub fn read_frame(pfn: u64) {
    read(layout::FRAMES + pfn * 4096);
}

fn read(address: u64) {
    // SAFETY: not at all; the kernel must stop this task here.
    let value = unsafe { (address as *const u64).read_volatile() };
    log::error!("read {value:#x} at {address:#x}");
}

/// What is executed is never writable.
pub fn write_code() {
    let code = write_code as fn() as usize as *mut u8;
    // SAFETY: not at all; the kernel must stop this task here.
    unsafe { code.write_volatile(0xc3) };
}

/// What is writable is never executed.
pub fn run_stack() {
    let code = [0xc3u8; 16];
    // SAFETY: not at all; the kernel must stop this task here.
    unsafe { asm!("call {}", in(reg) code.as_ptr()) };
}

/// An instruction of ring 0.
pub fn shut_out_interrupts() {
    // SAFETY: not at all; the kernel must stop this task here.
    unsafe { asm!("cli", options(nomem, nostack)) };
}
