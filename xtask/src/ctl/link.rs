//! The host's end of a system's second serial port: one request at a time, as the VM's server wants it.

use super::{DONE, ERROR};
use anyhow::{Context, bail};
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use vcpu::console::{GREETING, LONGEST, UNECHOED};

/// How long a system may take to be ready for its first request.
const READY: Duration = Duration::from_secs(120);
/// How long an answer may pause. Machines that emulate a CPU are slow, more so several at once.
const PAUSE: Duration = Duration::from_secs(120);

/// The line to a system.
#[derive(Debug)]
pub struct Link<S> {
    stream: S,
    /// What came and has not been looked at.
    bytes: Vec<u8>,
    state: State,
}

/// What the other side is known to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has not said that it takes requests.
    Silent,
    /// It waits for a request.
    Ready,
    /// It did not answer in time; what comes now belongs to no request.
    Lost,
}

/// A stream that can be read with a limit on the wait.
pub trait Timed: Read + Write {
    /// A read waits no longer than this; `WouldBlock` or `TimedOut` then.
    ///
    /// # Errors
    /// Those of the operating system.
    fn wait_at_most(&self, wait: Duration) -> std::io::Result<()>;
}

impl Timed for std::net::TcpStream {
    fn wait_at_most(&self, wait: Duration) -> std::io::Result<()> {
        self.set_read_timeout(Some(wait))
    }
}

impl Timed for std::os::unix::net::UnixStream {
    fn wait_at_most(&self, wait: Duration) -> std::io::Result<()> {
        self.set_read_timeout(Some(wait))
    }
}

impl<S: Timed> Link<S> {
    /// The line that `stream` is.
    pub const fn new(stream: S) -> Self {
        Self { stream, bytes: Vec::new(), state: State::Silent }
    }

    /// Sends a request, and passes every line of the answer to `show`, the last one too.
    ///
    /// # Errors
    /// The other side is not ready, does not answer, or is gone; an answer that the protocol does not have.
    pub fn ask(&mut self, request: &str, mut show: impl FnMut(&str)) -> anyhow::Result<()> {
        let printed = |byte: &u8| (b' '..=b'~').contains(byte);
        // The other side answers no empty line, and would take a carriage return for the end of one request of two.
        if request.trim().is_empty() || request.len() > LONGEST || !request.as_bytes().iter().all(printed) {
            bail!("a request is 1 to {LONGEST} printable ASCII characters; `help` lists what can be asked");
        }
        match self.state {
            State::Ready => {}
            State::Silent => self.greeted()?,
            State::Lost => bail!("the system did not answer an earlier request"),
        }
        self.state = State::Lost;
        self.send(request)?;
        loop {
            let line = self.line(PAUSE).context("the answer is cut off")?;
            show(&line);
            if !line.starts_with(' ') {
                if line != DONE && !line.starts_with(ERROR) {
                    bail!("an answer that ends with `{line}`");
                }
                self.state = State::Ready;
                return Ok(());
            }
        }
    }

    fn greeted(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        while start.elapsed() < READY {
            match self.line(READY.saturating_sub(start.elapsed())) {
                Ok(line) if line == GREETING => {
                    self.state = State::Ready;
                    return Ok(());
                }
                // Whatever the port carried before.
                Ok(_) => {}
                Err(error) => return Err(error.context("the VM's server does not take requests yet")),
            }
        }
        bail!("the VM's server does not take requests yet")
    }

    /// Sends the request and takes the echo, of which it is never too far ahead.
    fn send(&mut self, request: &str) -> anyhow::Result<()> {
        let line = format!("{request}\n");
        for part in line.as_bytes().chunks(UNECHOED) {
            self.stream.write_all(part)?;
            self.stream.flush()?;
            while self.bytes.len() < part.len() {
                self.more(PAUSE).context("the request is not taken")?;
            }
            let echo: Vec<u8> = self.bytes.drain(..part.len()).collect();
            if echo != part {
                bail!("the echo of `{}` is `{}`", part.escape_ascii(), echo.escape_ascii());
            }
        }
        Ok(())
    }

    /// The next line.
    fn line(&mut self, wait: Duration) -> anyhow::Result<String> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            self.more(wait)?;
        }
    }

    fn more(&mut self, wait: Duration) -> anyhow::Result<()> {
        let mut buffer = [0; 4096];
        self.stream.wait_at_most(wait.max(Duration::from_millis(1)))?;
        match self.stream.read(&mut buffer) {
            Ok(0) => bail!("the system has ended"),
            Ok(read) => self.bytes.extend(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                bail!("nothing comes for {} s", wait.as_secs());
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    /// A server that echoes, loses what comes too fast, and answers by `answer`.
    fn server(mut stream: UnixStream, noise: &'static str, answer: fn(&str) -> String) {
        std::thread::spawn(move || {
            stream.write_all(format!("{noise}{GREETING}\n").as_bytes()).expect("written");
            let mut line = Vec::new();
            loop {
                std::thread::sleep(Duration::from_millis(2));
                let mut burst = [0; 64];
                let Ok(read @ 1..) = stream.read(&mut burst) else { return };
                let kept = &burst[..read.min(UNECHOED)];
                stream.write_all(kept).expect("written");
                line.extend(kept);
                if line.ends_with(b"\n") {
                    let text = String::from_utf8(std::mem::take(&mut line)).expect("text");
                    stream.write_all(answer(text.trim_end()).as_bytes()).expect("written");
                }
            }
        });
    }

    fn asked(request: &str, noise: &'static str, answer: fn(&str) -> String) -> (Vec<String>, Result<(), String>) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        server(theirs, noise, answer);
        let (mut link, mut lines) = (Link::new(ours), Vec::new());
        let mut result = Ok(());
        for _ in 0..2 {
            lines.clear();
            result = link.ask(request, |line| lines.push(line.to_owned())).map_err(|error| format!("{error:#}"));
        }
        (lines, result)
    }

    #[test]
    fn a_request_that_is_longer_than_the_fifo_arrives_whole_and_its_answer_comes_back() {
        let request = "slot create 10 0x10000000 24320 log,readonly";
        let (lines, result) = asked(request, "BIOS\r\n", |text| format!(" you said {text}\nok\n"));
        assert_eq!(result, Ok(()));
        assert_eq!(lines, [format!(" you said {request}"), "ok".to_owned()]);
    }

    #[test]
    fn a_refusal_is_an_answer() {
        let (lines, result) = asked("why", "", |_| "error: it must be why GPA\n".to_owned());
        assert_eq!((lines.as_slice(), result), (&["error: it must be why GPA".to_owned()][..], Ok(())));
    }

    #[test]
    fn what_is_no_answer_is_not_taken_for_one_and_the_line_is_not_used_again() {
        let (_, result) = asked("why 1", "", |_| "it was me\n".to_owned());
        assert!(result.expect_err("no answer").contains("earlier request"));
    }

    #[test]
    fn what_can_be_no_request_is_refused_and_the_line_is_used_again() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        server(theirs, "", |_| "ok\n".to_owned());
        let mut link = Link::new(ours);
        let too_long = "x".repeat(LONGEST + 1);
        for wrong in ["", " ", "stats\rkill", "stats\tnow", "\u{7f}", "\u{e9}", &too_long] {
            let why = link.ask(wrong, |line| panic!("`{line}` answers {wrong:?}")).expect_err(wrong).to_string();
            assert!(why.contains("1 to 120 printable ASCII characters"), "{wrong:?}: {why}");
        }
        link.ask("stats", |_| {}).expect("the line is as it was");
    }
}
