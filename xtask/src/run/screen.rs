//! What a person sees of a run: the guest's bytes on standard output, the system's lines beside them.

use crate::console::{Kind, Piece, SystemLine};
use std::io::{IsTerminal, Write};

/// How guest and system lines are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Without colours.
    Plain,
    /// System lines dimmed, where standard error is a terminal.
    Terminal,
}

/// The screen.
pub struct Screen {
    colours: bool,
    /// Standard output and standard error are seen together: a line of one must not break into one of the other.
    together: bool,
    /// The guest's last byte did not end a line.
    open: bool,
}

impl Screen {
    /// A screen that shows it so.
    #[must_use]
    pub fn new(show: Show) -> Self {
        let errors = std::io::stderr().is_terminal();
        let together = errors && std::io::stdout().is_terminal();
        Self { colours: show == Show::Terminal && errors, together, open: false }
    }

    /// Shows a piece of the console. The loader is not shown.
    pub fn show(&mut self, piece: &Piece) {
        match piece {
            Piece::Loader(_) => {}
            Piece::Guest(bytes) => {
                // A closed standard output is no reason to stop the machine.
                let _ = std::io::stdout().write_all(bytes);
                self.open = bytes.last() != Some(&b'\n');
            }
            Piece::System(line) => self.system(line),
        }
    }

    /// Makes everything visible.
    pub fn flush(&self) {
        let _ = std::io::stdout().flush();
    }

    fn system(&mut self, line: &SystemLine) {
        let tag = match line.kind {
            Kind::Figure => return,
            Kind::Error => "error: ",
            Kind::Warn => "warning: ",
            Kind::End => "end: ",
            Kind::Info | Kind::Debug | Kind::Trace | Kind::Machine => "",
        };
        self.flush();
        let (dim, plain) = match (self.colours, line.kind) {
            (false, _) => ("", ""),
            (true, Kind::Error) => ("\x1b[31m", "\x1b[0m"),
            (true, Kind::Warn) => ("\x1b[33m", "\x1b[0m"),
            (true, _) => ("\x1b[2m", "\x1b[0m"),
        };
        // Carriage returns, because the terminal may be in raw mode.
        let (before, after) = match (self.together, self.open) {
            (true, true) => ("\r\n", "\r\n"),
            (true, false) => ("", "\r\n"),
            (false, _) => ("", "\n"),
        };
        self.open = false;
        eprint!("{before}{dim}| {}: {tag}{}{plain}{after}", line.speaker, line.text);
    }
}
