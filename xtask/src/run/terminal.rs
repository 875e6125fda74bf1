//! The terminal as the guest's keyboard: raw, so that every key reaches the guest; Ctrl-A then X leaves.

use anyhow::Context;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{IsTerminal, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Ctrl-A: the next key is for xtask.
const ESCAPE: u8 = 1;

/// The terminal's mode before; put back when this is dropped.
pub struct Restore(Option<Termios>);

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // If the terminal is gone there is nothing to put back.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Sends what is typed to `keys`, and sets `left` when the person wants to leave.
///
/// # Errors
/// A terminal that cannot be made raw.
pub fn connect(mut keys: Box<dyn Write + Send>, left: &'static AtomicBool) -> anyhow::Result<Restore> {
    let mut restore = Restore(None);
    if std::io::stdin().is_terminal() {
        let before = tcgetattr(std::io::stdin()).context("reading the terminal's mode")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).context("making the terminal raw")?;
        restore.0 = Some(before);
        eprint!("xtask: what you type goes to the guest; Ctrl-A then X leaves\r\n");
    }
    // The thread may wait for a key for ever: it ends with the process.
    std::thread::spawn(move || {
        let mut typed = Typed::default();
        for byte in std::io::stdin().lock().bytes() {
            let Ok(byte) = byte else { return };
            match typed.key(byte) {
                Key::Guest(byte) if keys.write_all(&[byte]).and_then(|()| keys.flush()).is_err() => return,
                Key::Guest(_) | Key::Held => {}
                Key::Leave => {
                    left.store(true, Ordering::Relaxed);
                    return;
                }
            }
        }
    });
    Ok(restore)
}

/// What a typed byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Guest(u8),
    Held,
    Leave,
}

#[derive(Debug, Default)]
struct Typed {
    escaped: bool,
}

impl Typed {
    /// Ctrl-A X leaves, Ctrl-A Ctrl-A is one Ctrl-A, any other key after Ctrl-A is that key.
    fn key(&mut self, byte: u8) -> Key {
        match (std::mem::take(&mut self.escaped), byte) {
            (false, ESCAPE) => {
                self.escaped = true;
                Key::Held
            }
            (true, b'x' | b'X') => Key::Leave,
            (_, byte) => Key::Guest(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_reaches_the_guest_but_control_a_then_x() {
        let mut typed = Typed::default();
        let keys: Vec<Key> = b"x\x03\x01\x01\x01x".iter().map(|byte| typed.key(*byte)).collect();
        let expected = [Key::Guest(b'x'), Key::Guest(3), Key::Held, Key::Guest(1), Key::Held, Key::Leave];
        assert_eq!(keys, expected);
    }
}
