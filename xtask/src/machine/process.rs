//! A machine that runs: its process, the stream of its console, and a way to type. Ends with the value.

use anyhow::Context;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How often a file that grows is looked at.
const POLL: Duration = Duration::from_millis(20);
/// How long a machine may take to connect its console.
const CONNECT: Duration = Duration::from_secs(30);

/// Where a machine's console comes from.
pub enum Console {
    /// A file that the machine appends to.
    Growing(PathBuf),
    /// A connection that the machine makes.
    Socket(TcpListener),
    /// The process's standard output and input.
    Pipes,
}

/// A machine that runs. Dropping it ends its process.
pub struct Running {
    child: Child,
    ended: Arc<AtomicBool>,
    bytes: Receiver<Vec<u8>>,
    keys: Option<Box<dyn Write + Send>>,
    second_port: Option<TcpStream>,
}

/// What happened within a while.
pub enum Event {
    /// Console bytes came.
    Bytes(Vec<u8>),
    /// Nothing came.
    Quiet,
    /// The machine has ended and everything has been read.
    Ended,
}

impl Running {
    /// Starts `command` as a machine, which connects its second serial port to `second_port` if that is there; its own
    /// messages go to `log`.
    ///
    /// # Errors
    /// A process that does not start, or makes no connection for its console.
    pub fn start(
        command: Command,
        console: Console,
        second_port: Option<TcpListener>,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let mut command = ends_with_us(command);
        let log = File::create(log)?;
        command.stderr(log.try_clone()?).stdin(Stdio::null()).stdout(log);
        if matches!(console, Console::Pipes) {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        }
        // Its own process group: Ctrl-C is for xtask, which then ends the machine.
        command.process_group(0);
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        let (sender, bytes) = channel();
        // From here on dropping ends the process.
        let mut running = Self { child, ended: Arc::default(), bytes, keys: None, second_port: None };
        running.attach(console, sender)?;
        if let Some(listener) = second_port {
            running.second_port = Some(running.accept(&listener)?);
        }
        Ok(running)
    }

    fn attach(&mut self, console: Console, sender: Sender<Vec<u8>>) -> anyhow::Result<()> {
        match console {
            Console::Growing(path) => {
                let ended = Arc::clone(&self.ended);
                std::thread::spawn(move || follow(&path, &ended, &sender));
            }
            Console::Socket(listener) => {
                let stream = self.accept(&listener)?;
                self.keys = Some(Box::new(stream.try_clone()?));
                std::thread::spawn(move || pump(stream, &sender));
            }
            Console::Pipes => {
                let output = self.child.stdout.take().context("no standard output")?;
                self.keys = self.child.stdin.take().map(|input| Box::new(input) as Box<dyn Write + Send>);
                std::thread::spawn(move || pump(output, &sender));
            }
        }
        Ok(())
    }

    fn accept(&mut self, listener: &TcpListener) -> anyhow::Result<TcpStream> {
        listener.set_nonblocking(true)?;
        let deadline = Instant::now() + CONNECT;
        while Instant::now() < deadline && self.exit_status()?.is_none() {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => std::thread::sleep(POLL),
                Err(error) => return Err(error.into()),
            }
        }
        anyhow::bail!("the machine did not connect its serial port")
    }

    /// Waits at most `wait` for console bytes.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn next(&mut self, wait: Duration) -> anyhow::Result<Event> {
        if self.exit_status()?.is_some() {
            // The file's last bytes are read once more after this.
            self.ended.store(true, Ordering::Release);
        }
        Ok(match self.bytes.recv_timeout(wait) {
            Ok(bytes) => Event::Bytes(bytes),
            Err(RecvTimeoutError::Timeout) => Event::Quiet,
            Err(RecvTimeoutError::Disconnected) => match self.exit_status()? {
                Some(_) => Event::Ended,
                None => {
                    std::thread::sleep(wait.min(POLL));
                    Event::Quiet
                }
            },
        })
    }

    /// How the machine's process ended, if it has.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn exit_status(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// The other end of the machine's second serial port, once.
    pub fn second_port(&mut self) -> Option<TcpStream> {
        self.second_port.take()
    }

    /// What types into the console, once.
    pub fn keys(&mut self) -> Option<Box<dyn Write + Send>> {
        self.keys.take()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Either may fail only because the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has the kernel end the machine when xtask dies without a chance to, where there is `setpriv` (util-linux).
fn ends_with_us(command: Command) -> Command {
    if !crate::setup::has_program("setpriv") {
        return command;
    }
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        wrapped.current_dir(dir);
    }
    wrapped
}

/// Sends what a file grows by, until the machine has ended and the file is read to its end.
fn follow(path: &Path, ended: &AtomicBool, sender: &Sender<Vec<u8>>) {
    let mut file = None;
    loop {
        // Read before the file is: then nothing can be written between the last read and the end.
        let last = ended.load(Ordering::Acquire);
        file = file.or_else(|| File::open(path).ok());
        let read = file.as_mut().map_or(0, |file| send_some(file, sender));
        if read == 0 {
            if last {
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Sends what a stream gives until it ends.
fn pump(mut stream: impl Read, sender: &Sender<Vec<u8>>) {
    while send_some(&mut stream, sender) > 0 {}
}

/// Sends one read's worth and says how much: 0 at the end, on an error, or when nobody listens.
fn send_some(stream: &mut impl Read, sender: &Sender<Vec<u8>>) -> usize {
    let mut buffer = [0; 1 << 14];
    let read = loop {
        match stream.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => break other.unwrap_or(0),
        }
    };
    if read > 0 && sender.send(buffer[..read].to_vec()).is_err() {
        return 0;
    }
    read
}
