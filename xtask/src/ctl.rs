//! `cargo xtask ctl`: asks a running system something over its control console.
//!
//! `cargo xtask run` holds the other end of the system's second serial port ([`link`]) and lets others ask over it
//! ([`relay`]); [`register`] says which systems run here, and [`prompt`] is for who asks more than one thing.

mod link;
mod prompt;
mod register;
mod relay;

pub use relay::Relay;

use crate::status::{self, Status};
use anyhow::Context;
use register::Run;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::os::unix::net::UnixStream;

/// How an answer ends when what was asked is done.
pub const DONE: &str = "ok";
/// What comes before the reason when it is not.
pub const ERROR: &str = "error: ";

/// What to ask, and of which system.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to ask, for example `why 0x100000`; `help` lists everything. Without it, a prompt.
    request: Vec<String>,
    /// Of which run, when several systems run: its name, or a part that no other has.
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    /// Print the systems that run here, and end.
    #[arg(long)]
    list: bool,
}

/// Runs the verb: [`Status::Done`] when everything that was asked was done.
///
/// # Errors
/// Status 3 when nothing runs; 2 when it is not clear what is meant.
pub fn run(args: &Args) -> anyhow::Result<Status> {
    let runs = register::running()?;
    if args.list {
        for run in &runs {
            println!("{}: {}", run.name, run.about);
        }
        return Ok(Status::Done);
    }
    let run = chosen(&runs, args.run.as_deref())?;
    let mut asked = Asked::connect(run)?;
    if !args.request.is_empty() {
        return asked.print(&args.request.join(" "));
    }
    if std::io::stdin().is_terminal() {
        return prompt::run(&mut asked, &run.name);
    }
    let mut worst = Status::Done;
    for line in lines(std::io::stdin().lock()) {
        let line = line?;
        if !line.trim().is_empty() && asked.print(line.trim())? != Status::Done {
            worst = Status::Error;
        }
    }
    Ok(worst)
}

/// The lines of an input. Bytes that are no text stay recognizable as such: a line that has them is refused like any other.
fn lines(input: impl BufRead) -> impl Iterator<Item = std::io::Result<String>> {
    input.split(b'\n').map(|line| Ok(String::from_utf8_lossy(&line?).into_owned()))
}

/// The run that is meant.
fn chosen<'a>(runs: &'a [Run], wanted: Option<&str>) -> anyhow::Result<&'a Run> {
    let fit = |run: &&Run| wanted.is_none_or(|part| run.name.contains(part));
    let exact = runs.iter().find(|run| wanted == Some(run.name.as_str()));
    let fitting: Vec<&Run> = runs.iter().filter(fit).collect();
    let names = || runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    match (exact, fitting.as_slice(), wanted) {
        (Some(run), ..) => Ok(run),
        (None, [run], _) => Ok(run),
        _ if runs.is_empty() => Err(status::missing(
            "no system with a control console runs here: start one, for example with `cargo xtask run linux`",
        )),
        (None, [], _) => Err(status::usage(format!(
            "no run has `{}` in its name; there are: {}",
            wanted.unwrap_or_default(),
            names()
        ))),
        (None, _, Some(part)) => {
            Err(status::usage(format!("more than one run has `{part}` in its name; there are: {}", names())))
        }
        (None, _, None) => Err(status::usage(format!("several systems run: say --run with one of {}", names()))),
    }
}

/// A connection to a run.
#[derive(Debug)]
pub struct Asked {
    name: String,
    lines: BufReader<UnixStream>,
}

impl Asked {
    fn connect(run: &Run) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(&run.socket).with_context(|| format!("{} does not answer", run.name))?;
        Ok(Self { name: run.name.clone(), lines: BufReader::new(stream) })
    }

    /// Asks, shows each line of the answer as it comes, and says how it ended.
    ///
    /// # Errors
    /// The system has ended.
    pub fn ask(&mut self, request: &str, mut show: impl FnMut(&str)) -> anyhow::Result<Result<(), String>> {
        anyhow::ensure!(!request.contains('\n'), "a request is one line");
        let ended = || format!("{} has ended", self.name);
        self.lines.get_mut().write_all(format!("{request}\n").as_bytes()).with_context(ended)?;
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).with_context(ended)?;
            anyhow::ensure!(read > 0, ended());
            let line = line.trim_end();
            if let Some(text) = line.strip_prefix(' ') {
                show(text);
            } else {
                return Ok(match line.strip_prefix(ERROR) {
                    None if line == DONE => Ok(()),
                    Some(why) => Err(why.to_owned()),
                    None => Err(format!("an answer that ends with `{line}`")),
                });
            }
        }
    }

    /// Asks and prints the answer.
    fn print(&mut self, request: &str) -> anyhow::Result<Status> {
        let ended = self.ask(request, |line| println!("{line}"))?;
        Ok(match ended {
            Ok(()) => Status::Done,
            Err(why) => {
                eprintln!("{ERROR}{why}");
                Status::Error
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str) -> Run {
        Run { name: name.to_owned(), about: String::new(), socket: name.into() }
    }

    #[test]
    fn a_run_is_meant_by_any_part_of_its_name_that_no_other_has() {
        let runs = [run("linux-12"), run("linux-123"), run("touch-4")];
        let name = |wanted| chosen(&runs, Some(wanted)).map(|run| run.name.as_str()).map_err(|error| error.to_string());
        assert_eq!(name("touch"), Ok("touch-4"));
        assert_eq!(name("123"), Ok("linux-123"));
        assert_eq!(name("linux-12"), Ok("linux-12"), "the whole name");
        for wrong in ["linux", "memtest"] {
            assert!(name(wrong).expect_err(wrong).contains("linux-12, linux-123, touch-4"), "{wrong}");
        }
        assert!(chosen(&runs, None).expect_err("three").to_string().contains("--run"));
        assert_eq!(chosen(&runs[..1], None).expect("one").name, "linux-12");
    }

    #[test]
    fn without_a_system_it_is_said_how_to_start_one() {
        for wanted in [None, Some("linux")] {
            let error = chosen(&[], wanted).expect_err("none");
            assert_eq!(Status::of(&error), Status::Missing);
            assert!(error.to_string().contains("cargo xtask run linux"), "{error}");
        }
    }
}
