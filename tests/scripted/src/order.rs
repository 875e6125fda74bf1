//! What the pager orders of the server, and what the server reports: eight words each, in the message page.

/// Bytes of either.
pub const BYTES: usize = 64;
/// Words of either.
pub type Words8 = [u64; 8];

/// The pager's deadline in the boot that has one.
pub const DEADLINE_MS: u64 = 50;

/// Let the guest go on: words 1 to 3 are its RIP, EBX and ECX, 4 an event as in word 1 of a resume.
pub const TOUCH: u64 = 0;
/// Make the system call word 1 with words 2 to 7; [`CALLED`] reports.
pub const CALL: u64 = 1;
/// Read four bytes of the window at word 1.
pub const READ: u64 = 2;
/// Write four bytes, word 2, to the window at word 1.
pub const WRITE: u64 = 3;
/// End the system: the script is done.
pub const END: u64 = 4;
/// Execute what the window has at word 1.
pub const EXECUTE: u64 = 5;

/// The server is there: word 1 is its first frame.
pub const HELLO: u64 = 0;
/// The guest has left: words 1 to 3 are the exit's, 4 is EAX.
pub const EXIT: u64 = 1;
/// The system call came back: word 1 is the status, 2 to 7 the words. Of a window access: word 2 is what was read.
pub const CALLED: u64 = 2;

/// Where the guest's code is.
pub const CODE: u64 = 0x1000;
/// Reads EAX from [EBX], then VMCALL.
pub const CODE_READ: u64 = CODE;
/// Writes ECX to [EBX], then VMCALL.
pub const CODE_WRITE: u64 = CODE + 16;
/// Jumps to EBX.
pub const CODE_FETCH: u64 = CODE + 32;
/// VMCALL: the handler of the guest's exception.
pub const CODE_HANDLER: u64 = CODE + 48;
/// Writes to ECX pages from [EBX] on, then VMCALL.
pub const CODE_SWEEP: u64 = CODE + 64;
/// The guest's descriptors: one, of all code.
pub const DESCRIPTORS: u64 = CODE + 0x800;
/// The guest's stack, which grows down from here.
pub const STACK: u64 = CODE + 0xff0;
/// The code as words of its frame: place and value.
pub const WORDS: [(usize, u32); 12] = [
    (0, 0x010f_038b),
    (1, 0xc1),
    (4, 0x010f_0b89),
    (5, 0xc1),
    (8, 0xe3ff),
    (12, VMCALL),
    (16, 0xc381_0b89),
    (17, 0x1000),
    (18, 0x0ff5_7549),
    (19, 0xc101),
    (0x202, 0xffff),
    (0x203, 0x00cf_9b00),
];
/// RET, for a window that is called into.
pub const RETURN: u32 = 0xc3;
/// VMCALL, for a page that is jumped to.
pub const VMCALL: u32 = 0xc1_010f;

/// A page that pagers grant before they end, and what is in it.
pub const KEPT: u64 = 0x7f_0000;
/// Its first word.
pub const KEPT_WORD: u32 = 0x0bad_cafe;

/// Reads eight words from the message page.
pub fn read() -> Words8 {
    let mut bytes = [0; BYTES];
    rt::read_message(&mut bytes);
    core::array::from_fn(|n| u64::from_le_bytes(core::array::from_fn(|byte| bytes[n * 8 + byte])))
}

/// Writes eight words to the message page.
pub fn write(words: Words8) {
    for (n, word) in words.iter().enumerate() {
        rt::write_message_at(n * 8, &word.to_le_bytes());
    }
}
