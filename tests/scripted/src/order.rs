//! What the pager orders of the server, and what the server reports: eight words each, in the message page.

/// Bytes of either.
pub const BYTES: usize = 64;
/// Words of either.
pub type Words8 = [u64; 8];

/// Let the guest go on: words 1 to 3 are its RIP, EBX and ECX.
pub const TOUCH: u64 = 0;
/// Make the system call word 1 with words 2 to 7; [`CALLED`] reports.
pub const CALL: u64 = 1;
/// Read four bytes of the window at word 1.
pub const READ: u64 = 2;
/// Write four bytes, word 2, to the window at word 1.
pub const WRITE: u64 = 3;
/// End the system: the script is done.
pub const END: u64 = 4;

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
/// The code as words of its frame: place and value.
pub const WORDS: [(usize, u32); 5] = [(0, 0x010f_038b), (1, 0xc1), (4, 0x010f_0b89), (5, 0xc1), (8, 0xe3ff)];
/// VMCALL, for a page that is jumped to.
pub const VMCALL: u32 = 0xc1_010f;

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
