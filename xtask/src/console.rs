//! The console of a run: the loader's noise, the guest's bytes and the system's lines, told apart.
//!
//! Everything travels over COM1. What precedes the end of [`BOOT_LINE`] is the loader's. After that a *system line*
//! is byte 0x1e, a letter, a space, the speaker, `: `, text, a line feed; it may begin in the middle of a guest's
//! line, and what is left when system lines are taken out is exactly what the guest wrote.

use crate::image::BOOT_LINE;
use ipc_proto::call::End;

/// Begins a system line: the ASCII record separator.
const MARK: u8 = 0x1e;
/// A system line longer than this is none: the guest wrote the mark.
const LONGEST: usize = 1024;

/// How a line of GRUB's begins when something went wrong that it can do without.
const COMPLAINT: &[u8] = b"error: ";

/// What a system line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `E`: what ends something.
    Error,
    /// `W`: what is wrong but survived.
    Warn,
    /// `I`: a milestone.
    Info,
    /// `D`: a decision.
    Debug,
    /// `T`: a message.
    Trace,
    /// `S`: a figure for the summary.
    Figure,
    /// `Z`: the end of the system.
    End,
    /// `M`: about the machine around the system, as [`crate::machine`] has its helpers say.
    Machine,
}

impl Kind {
    const fn from_letter(letter: u8) -> Option<Self> {
        match letter {
            b'E' => Some(Self::Error),
            b'W' => Some(Self::Warn),
            b'I' => Some(Self::Info),
            b'D' => Some(Self::Debug),
            b'T' => Some(Self::Trace),
            b'S' => Some(Self::Figure),
            b'Z' => Some(Self::End),
            b'M' => Some(Self::Machine),
            _ => None,
        }
    }
}

/// A line of the kernel's or a server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemLine {
    /// What it says.
    pub kind: Kind,
    /// Who says it.
    pub speaker: String,
    /// The text.
    pub text: String,
}

impl SystemLine {
    fn parse(line: &[u8]) -> Option<Self> {
        let [letter, b' ', rest @ ..] = line else { return None };
        let kind = Kind::from_letter(*letter)?;
        let rest = String::from_utf8_lossy(rest);
        let (speaker, text) = rest.split_once(": ")?;
        Some(Self { kind, speaker: speaker.to_owned(), text: text.trim_end().to_owned() })
    }

    /// The key and value of a figure.
    #[must_use]
    pub fn figure(&self) -> Option<(&str, u64)> {
        let (key, value) = self.text.split_once(' ')?;
        (self.kind == Kind::Figure).then_some((key, value.trim().parse().ok()?))
    }

    /// How the system ended, and the words for it.
    #[must_use]
    pub fn end(&self) -> Option<(End, &str)> {
        let (number, reason) = self.text.split_once(' ').unwrap_or((&self.text, ""));
        (self.kind == Kind::End).then_some((End::from_number(number.parse().ok()?), reason))
    }
}

/// A piece of the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes before the system: BIOS, GRUB, the machine's own helpers.
    Loader(Vec<u8>),
    /// Bytes of the guest's.
    Guest(Vec<u8>),
    /// A system line.
    System(SystemLine),
}

/// Splits the console as it comes.
#[derive(Debug, Default)]
pub struct Splitter {
    /// The loader's line so far.
    loader: Vec<u8>,
    /// After a mark: the line so far, without the mark.
    line: Option<Vec<u8>>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Before the end of the boot line.
    #[default]
    Loader,
    /// After its line feed: GRUB sends a carriage return after each, and may complain on lines of its own, for
    /// example that there is no VGA BIOS.
    HandOver,
    /// After it, or after the first line of the system's.
    System,
}

impl Splitter {
    /// Takes in bytes and gives the pieces that are complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for byte in bytes {
            self.byte(*byte, &mut pieces);
        }
        pieces
    }

    /// At the end of the console: what was held back.
    pub fn finish(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if let Some(held) = self.line.take() {
            self.not_a_line(held, &mut pieces);
        }
        // What was no line may hold a mark again.
        if self.line.is_some() {
            pieces.extend(self.finish());
        }
        self.end_loader(&mut pieces);
        pieces
    }

    fn byte(&mut self, byte: u8, pieces: &mut Vec<Piece>) {
        match self.line.take() {
            None if byte == MARK => self.line = Some(Vec::new()),
            None => self.plain(byte, pieces),
            Some(held) if byte == b'\n' => self.line_ends(held, pieces),
            Some(mut held) => {
                held.push(byte);
                if may_become_a_line(&held) {
                    self.line = Some(held);
                } else {
                    self.not_a_line(held, pieces);
                }
            }
        }
    }

    fn line_ends(&mut self, mut held: Vec<u8>, pieces: &mut Vec<Piece>) {
        match SystemLine::parse(&held) {
            Some(line) => {
                // Machines that load the kernel themselves show no boot line.
                if line.kind != Kind::Machine {
                    self.end_loader(pieces);
                    self.stage = Stage::System;
                }
                pieces.push(Piece::System(line));
            }
            None => {
                held.push(b'\n');
                self.not_a_line(held, pieces);
            }
        }
    }

    /// The mark was not ours.
    fn not_a_line(&mut self, held: Vec<u8>, pieces: &mut Vec<Piece>) {
        self.plain(MARK, pieces);
        for byte in held {
            self.byte(byte, pieces);
        }
    }

    fn plain(&mut self, byte: u8, pieces: &mut Vec<Piece>) {
        match self.stage {
            Stage::System => guest(pieces, byte),
            Stage::HandOver => self.hand_over(byte, pieces),
            Stage::Loader => self.loaders(byte, pieces),
        }
    }

    fn loaders(&mut self, byte: u8, pieces: &mut Vec<Piece>) {
        self.loader.push(byte);
        if byte == b'\n' {
            if self.loader.windows(BOOT_LINE.len()).any(|part| part == BOOT_LINE.as_bytes()) {
                self.stage = Stage::HandOver;
            }
            self.end_loader(pieces);
        }
    }

    fn hand_over(&mut self, byte: u8, pieces: &mut Vec<Piece>) {
        self.loader.push(byte);
        let text = self.loader.strip_prefix(b"\r").unwrap_or(&self.loader);
        let complaint = text.starts_with(COMPLAINT);
        if complaint && byte == b'\n' {
            self.end_loader(pieces);
        } else if !complaint && !COMPLAINT.starts_with(text) {
            let text = text.to_vec();
            self.loader.truncate(self.loader.len() - text.len());
            self.end_loader(pieces);
            self.stage = Stage::System;
            text.into_iter().for_each(|byte| guest(pieces, byte));
        }
    }

    fn end_loader(&mut self, pieces: &mut Vec<Piece>) {
        if !self.loader.is_empty() {
            pieces.push(Piece::Loader(std::mem::take(&mut self.loader)));
        }
    }
}

/// Whether a system line can still begin so.
fn may_become_a_line(held: &[u8]) -> bool {
    let letter = held.first().is_none_or(|letter| Kind::from_letter(*letter).is_some());
    let space = held.get(1).is_none_or(|byte| *byte == b' ');
    letter && space && held.last() != Some(&MARK) && held.len() <= LONGEST
}

fn guest(pieces: &mut Vec<Piece>, byte: u8) {
    match pieces.last_mut() {
        Some(Piece::Guest(bytes)) => bytes.push(byte),
        _ => pieces.push(Piece::Guest(vec![byte])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &[u8] = b"\x1b[H\x1b[JGRUB\n\rfaultline: boot\n\r\x1eI ukernel: starts\nHello, \
        \x1eS ukernel: faults.count 22303\nworld\r\n\x1eZ ukernel: 0 the guest powered off\n";

    fn split(chunks: impl Iterator<Item = Vec<u8>>) -> (Vec<u8>, Vec<u8>, Vec<SystemLine>) {
        let mut splitter = Splitter::default();
        let mut pieces: Vec<Piece> = chunks.flat_map(|chunk| splitter.push(&chunk)).collect();
        pieces.extend(splitter.finish());
        let (mut loader, mut guest, mut lines) = (Vec::new(), Vec::new(), Vec::new());
        for piece in pieces {
            match piece {
                Piece::Loader(bytes) => loader.extend(bytes),
                Piece::Guest(bytes) => guest.extend(bytes),
                Piece::System(line) => lines.push(line),
            }
        }
        (loader, guest, lines)
    }

    #[test]
    fn taking_out_system_lines_leaves_exactly_the_guests_bytes_however_it_arrives() {
        for size in [1, 2, 7, CONSOLE.len()] {
            let (loader, guest, lines) = split(CONSOLE.chunks(size).map(<[u8]>::to_vec));
            assert!(loader.ends_with(b"faultline: boot\n\r"));
            assert_eq!(guest, b"Hello, world\r\n");
            assert_eq!(lines.len(), 3);
            assert_eq!(lines[1].figure(), Some(("faults.count", 22303)));
            assert_eq!(lines[2].end(), Some((End::Done, "the guest powered off")));
            assert_eq!(lines[2].figure(), None);
        }
    }

    #[test]
    fn what_grub_complains_about_when_it_hands_over_is_not_the_guests() {
        let bytes = b"faultline: boot\n\rerror: Can't get controller info..\n\rerr\r\n";
        for size in [1, bytes.len()] {
            let (loader, guest, _) = split(bytes.chunks(size).map(<[u8]>::to_vec));
            assert_eq!((loader.len(), guest.as_slice()), (bytes.len() - 5, &b"err\r\n"[..]));
        }
    }

    #[test]
    fn a_guest_that_writes_the_mark_keeps_its_bytes() {
        for bytes in [&b"faultline: boot\n\x1ex\x1eI \x1e\x1eQ ukernel: no\n"[..], b"faultline: boot\nend\x1e"] {
            let (_, guest, lines) = split(std::iter::once(bytes.to_vec()));
            assert_eq!(guest, bytes[16..]);
            assert_eq!(lines, []);
        }
    }

    #[test]
    fn a_system_line_that_never_ends_is_the_guests() {
        let mut bytes = b"faultline: boot\n\x1eI ".to_vec();
        bytes.extend(vec![b'x'; 3000]);
        let (_, guest, lines) = split(std::iter::once(bytes.clone()));
        assert_eq!(guest, bytes[16..]);
        assert_eq!(lines, []);
    }

    #[test]
    fn without_a_boot_line_everything_is_the_loaders() {
        let (loader, guest, _) = split(std::iter::once(b"error: no server is specified.\n> ".to_vec()));
        assert_eq!(loader, b"error: no server is specified.\n> ");
        assert_eq!(guest, b"");
    }
}
