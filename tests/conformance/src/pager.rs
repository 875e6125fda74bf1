//! The pager as a process: frames out and in, and its end, each within a deadline.

use anyhow::{Context, bail, ensure};
use ipc_proto::host::{self, FRAME, FromPager, LENGTH, SystemCall, ToPager};
use ipc_proto::wire;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often is looked whether a process has ended.
const POLL: Duration = Duration::from_millis(2);
/// How much of what a pager wrote to standard error is kept for a failure.
const LAST_WORDS: usize = 2000;

/// A pager that runs.
pub struct Pager {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// What has been read and not been taken yet.
    unread: Vec<u8>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    deadline: Duration,
    /// An answer was due, and has not come.
    pub silent: bool,
}

impl Pager {
    /// Starts `command` by the shell; each of its answers is due within `deadline`.
    ///
    /// # Errors
    /// No shell.
    pub fn start(command: &str, deadline: Duration) -> anyhow::Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).process_group(0);
        let mut child = shell
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting `{command}`"))?;
        let stdout = child.stdout.take().context("it has no standard output")?;
        let stderr = child.stderr.take().context("it has no standard error")?;
        let stderr = Some(std::thread::spawn(move || last_words(stderr)));
        let stdin = child.stdin.take();
        Ok(Self { child, stdin, stdout, unread: Vec::new(), stderr, deadline, silent: false })
    }

    /// When an answer to what is sent now is due.
    #[must_use]
    pub fn due(&self) -> Instant {
        Instant::now() + self.deadline
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// A pager that has ended.
    pub fn send(&mut self, message: &ToPager) -> anyhow::Result<()> {
        let mut buffer = vec![0; LENGTH + FRAME];
        let used = host::encode(message, &mut buffer).map_err(|error| anyhow::anyhow!("a frame of ours: {error:?}"))?;
        let stdin = self.stdin.as_mut().context("its standard input is closed")?;
        // A pipe may hand over a frame in pieces: the first does, in the midst of its length and of its bytes.
        let cuts = if matches!(message, ToPager::Boot(_)) { [2, used / 2, used] } else { [used; 3] };
        let mut from = 0;
        for to in cuts {
            if from != 0 && from != to {
                std::thread::sleep(POLL);
            }
            if stdin.write_all(&buffer[from..to]).is_err() {
                bail!("{}", self.ended());
            }
            from = to;
        }
        Ok(())
    }

    /// The pager's next system call.
    ///
    /// # Errors
    /// Silence until `due`, a frame that is none, an end.
    pub fn next(&mut self, due: Instant) -> anyhow::Result<SystemCall> {
        loop {
            if let Some(call) = self.whole_frame()? {
                return Ok(call);
            }
            match self.read_more(due)? {
                More::Bytes => {}
                More::TooLate => {
                    self.silent = true;
                    bail!("no answer within {:.1} s", self.deadline.as_secs_f32())
                }
                More::End if self.unread.is_empty() => bail!("{}", self.ended()),
                More::End => bail!("in the middle of a frame {}", self.ended()),
            }
        }
    }

    /// The first frame of what has been read, if it is all there.
    fn whole_frame(&mut self) -> anyhow::Result<Option<SystemCall>> {
        let Some((length, rest)) = self.unread.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let wanted =
            host::length(*length).map_err(|error| anyhow::anyhow!("a frame of length {length:x?}: {error:?}"))?;
        let Some(bytes) = rest.get(..wanted) else { return Ok(None) };
        let FromPager::Call(call) =
            wire::decode(bytes).map_err(|error| anyhow::anyhow!("a frame that is no system call: {error:?}"))?;
        self.unread.drain(..LENGTH + wanted);
        Ok(Some(call))
    }

    fn read_more(&mut self, due: Instant) -> anyhow::Result<More> {
        let left = due.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).context("a deadline")?;
        let mut waits = [PollFd::new(&self.stdout, PollFlags::IN)];
        match poll(&mut waits, Some(&left)) {
            Ok(0) => return Ok(More::TooLate),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(More::Bytes),
            Err(error) => return Err(error).context("waiting for the pager"),
        }
        let mut buffer = [0; 8192];
        let got = self.stdout.read(&mut buffer).context("reading from the pager")?;
        self.unread.extend_from_slice(&buffer[..got]);
        Ok(if got == 0 { More::End } else { More::Bytes })
    }

    /// Closes its standard input: it must end, with status 0, and without another word.
    ///
    /// # Errors
    /// It does not.
    pub fn close(&mut self) -> anyhow::Result<()> {
        let due = self.due();
        self.stdin = None;
        ensure!(self.unread.is_empty(), "P42: it wrote more than it was asked for");
        match self.read_more(due)? {
            More::Bytes => bail!("P42: its standard input is closed, and it makes another system call"),
            More::TooLate => bail!("P42: it goes on after the end of its standard input"),
            More::End => {}
        }
        match self.wait(due) {
            Some(0) => Ok(()),
            Some(status) => bail!("P42: it ends with status {status} at the end of its standard input"),
            None => bail!("P42: it goes on after the end of its standard input"),
        }
    }

    /// Ends it at once, as a task is stopped.
    pub fn kill(&mut self) {
        // The shell's group: what the shell has started ends with it. It may have ended already.
        let _ = rustix::process::kill_process_group(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::KILL,
        );
        let _ = self.child.wait();
    }

    fn wait(&mut self, due: Instant) -> Option<i32> {
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status.code().unwrap_or(-1)),
                Ok(None) if Instant::now() < due => std::thread::sleep(POLL),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// How it ended, with its last words.
    fn ended(&mut self) -> String {
        let status = self.wait(Instant::now() + Duration::from_millis(500));
        self.kill();
        let words = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        let how =
            status.map_or_else(|| "it closed its output".to_owned(), |code| format!("it ended with status {code}"));
        if words.is_empty() { how } else { format!("{how}, and wrote:\n{words}") }
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What came of waiting for more.
enum More {
    Bytes,
    End,
    TooLate,
}

fn last_words(mut stderr: ChildStderr) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(got) = stderr.read(&mut buffer) {
        if got == 0 {
            break;
        }
        kept.extend_from_slice(&buffer[..got]);
        let surplus = kept.len().saturating_sub(LAST_WORDS);
        kept.drain(..surplus);
    }
    kept
}
