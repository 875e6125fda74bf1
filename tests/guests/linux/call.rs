//! The system calls that the program needs, and its entry point.

use core::arch::{asm, global_asm};
use core::fmt;

const READ: u64 = 0;
const WRITE: u64 = 1;
const OPEN: u64 = 2;
const CLOSE: u64 = 3;
const MMAP: u64 = 9;
const EXIT: u64 = 60;

global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call linux_main", "ud2",);

#[unsafe(no_mangle)]
extern "C" fn linux_main() -> ! {
    exit(crate::main())
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    say!("checksum: FAILED: {info}");
    exit(3)
}

/// Linux on x86-64: number in rax, arguments in rdi, rsi, rdx, r10, r8, r9; rcx and r11 are lost.
///
/// # Safety
/// What the arguments point to must be the program's, for as long as that call uses it.
unsafe fn call(number: u64, arguments: [u64; 6]) -> Result<u64, i64> {
    let [rdi, rsi, rdx, r10, r8, r9] = arguments;
    let result: i64;
    // SAFETY: the caller answers for the arguments.
    unsafe {
        asm!("syscall", inout("rax") number => result, in("rdi") rdi, in("rsi") rsi, in("rdx") rdx,
            in("r10") r10, in("r8") r8, in("r9") r9, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    u64::try_from(result).map_err(|_| result)
}

/// Ends the program.
pub fn exit(status: i32) -> ! {
    // SAFETY: no pointers.
    let _ = unsafe { call(EXIT, [status as u64, 0, 0, 0, 0, 0]) };
    loop {
        core::hint::spin_loop();
    }
}

/// Fresh memory of `bytes` bytes, as words.
pub fn map(bytes: usize) -> Option<&'static mut [u64]> {
    const READ_WRITE: u64 = 3;
    const PRIVATE_ANONYMOUS: u64 = 0x22;
    let arguments = [0, bytes as u64, READ_WRITE, PRIVATE_ANONYMOUS, u64::MAX, 0];
    // SAFETY: a new mapping disturbs no other.
    let address = unsafe { call(MMAP, arguments) }.ok()?;
    // SAFETY: the kernel has just mapped it, zeroed, for nobody else, and it is never unmapped.
    Some(unsafe { core::slice::from_raw_parts_mut(address as *mut u64, bytes / 8) })
}

/// Reads as much of a file as fits into `buffer`. `path` ends in a zero byte.
pub fn read_file<'a>(path: &[u8], buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    path.last().filter(|last| **last == 0)?;
    // SAFETY: the path ends in a zero byte.
    let file = unsafe { call(OPEN, [path.as_ptr() as u64, 0, 0, 0, 0, 0]) }.ok()?;
    let mut len = 0;
    while len < buffer.len() {
        let rest = &mut buffer[len..];
        // SAFETY: the kernel writes into the rest of the buffer.
        let read = unsafe { call(READ, [file, rest.as_mut_ptr() as u64, rest.len() as u64, 0, 0, 0]) }.ok()?;
        if read == 0 {
            break;
        }
        len += read as usize;
    }
    // SAFETY: no pointers.
    let _ = unsafe { call(CLOSE, [file, 0, 0, 0, 0, 0]) };
    Some(&buffer[..len])
}

/// Standard output.
pub struct Out;

impl fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const STANDARD_OUTPUT: u64 = 1;
        let arguments = [STANDARD_OUTPUT, text.as_ptr() as u64, text.len() as u64, 0, 0, 0];
        // SAFETY: the kernel reads the text.
        unsafe { call(WRITE, arguments) }.map(|_| ()).map_err(|_| fmt::Error)
    }
}

/// Prints a line.
macro_rules! say {
    ($($text:tt)*) => {{
        use core::fmt::Write;
        // Without an output there is nobody to tell.
        let _ = writeln!($crate::call::Out, $($text)*);
    }};
}
pub(crate) use say;
