//! The part of `cargo xtask run` that lets others ask the system: one request after another, whoever asks.

use super::ERROR;
use super::link::Link;
use super::register::Entry;
use crate::progress::say;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};

/// A relay. The system is not found any more when it goes.
#[derive(Debug)]
pub struct Relay {
    _entry: Entry,
}

impl Relay {
    /// Lets others ask `system` over `port`.
    ///
    /// # Errors
    /// The run cannot be entered in the register.
    pub fn start(system: &str, about: &str, port: TcpStream) -> anyhow::Result<Self> {
        let (entry, listener) = Entry::new(system, about)?;
        say(&format!("control console: cargo xtask ctl --run {} help", entry.name()));
        // It waits for people as long as the process lives.
        std::thread::spawn(move || serve(&listener, Link::new(port)));
        Ok(Self { _entry: entry })
    }
}

fn serve(listener: &UnixListener, link: Link<TcpStream>) {
    let link = Arc::new(Mutex::new(link));
    for client in listener.incoming().filter_map(Result::ok) {
        let link = Arc::clone(&link);
        std::thread::spawn(move || {
            // Whoever asks may go away at any time.
            let _ = answer(client, &link);
        });
    }
}

/// Answers one who asks until there are no more requests.
fn answer(client: UnixStream, link: &Mutex<Link<TcpStream>>) -> std::io::Result<()> {
    let mut out = client.try_clone()?;
    for request in BufReader::new(client).lines() {
        let request = request?;
        let mut gone = None;
        let asked = link.lock().unwrap_or_else(PoisonError::into_inner).ask(request.trim(), |line| {
            // The answer is taken to its end even if nobody wants it any more.
            gone = gone.take().or(writeln!(out, "{line}").err());
        });
        if let Err(error) = asked {
            writeln!(out, "{ERROR}{error:#}")?;
        }
        if let Some(error) = gone {
            return Err(error);
        }
    }
    Ok(())
}
