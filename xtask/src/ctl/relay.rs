//! The part of `cargo xtask run` that lets others ask the system: one request after another, whoever asks.

use super::ERROR;
use super::link::Link;
use super::register::Entry;
use crate::progress::say;
use std::io::{BufReader, Write};
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
    for request in super::lines(BufReader::new(client)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead;
    use std::net::TcpListener;
    use vcpu::console::GREETING;

    #[test]
    fn what_is_no_request_is_answered_and_the_next_one_too() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (system, _) = listener.accept().expect("connected");
        std::thread::spawn(move || {
            let mut out = system.try_clone().expect("a second end");
            out.write_all(format!("{GREETING}\n").as_bytes()).expect("written");
            for line in BufReader::new(system).lines().map_while(Result::ok) {
                out.write_all(format!("{line}\n {line}\nok\n").as_bytes()).expect("written");
            }
        });
        let (mut ours, theirs) = UnixStream::pair().expect("a pair");
        let asks = std::thread::spawn(move || answer(theirs, &Mutex::new(Link::new(port))));
        ours.write_all(b"\n \xff\xfe\nwhy\r1\nwhy 2\n").expect("written");
        ours.shutdown(std::net::Shutdown::Write).expect("no more");
        let lines: Vec<String> = BufReader::new(ours).lines().map_while(Result::ok).collect();
        asks.join().expect("it ends").expect("nothing is wrong with the line");
        let refused = lines.iter().take_while(|line| line.contains("printable ASCII")).count();
        assert_eq!((refused, &lines[refused..]), (3, &[" why 2".to_owned(), "ok".to_owned()][..]), "{lines:?}");
    }
}
