//! System calls as frames over standard output and input.

use anyhow::{Context, bail};
use ipc_proto::host::{self, Boot, FRAME, FromPager, LENGTH, MessagePage, Return, SystemCall, ToPager};
use ipc_proto::wire;
use ipc_proto::words::Words;
use std::io::{Read, Stdin, Stdout, Write};

/// Both pipes.
pub struct Port {
    input: Stdin,
    output: Stdout,
}

impl Port {
    /// Waits for the boot frame.
    ///
    /// # Errors
    /// Another frame, or none.
    pub fn open() -> anyhow::Result<(Self, Boot)> {
        let mut port = Self { input: std::io::stdin(), output: std::io::stdout() };
        match port.read()? {
            Some(ToPager::Boot(boot)) => Ok((port, boot)),
            Some(ToPager::Return(_)) | None => bail!("the first frame is not Boot"),
        }
    }

    /// The next frame; `None` at the end of the system.
    fn read(&mut self) -> anyhow::Result<Option<ToPager>> {
        let mut length = [0; LENGTH];
        if self.input.read(&mut length[..1])? == 0 {
            return Ok(None);
        }
        self.input.read_exact(&mut length[1..])?;
        let length = host::length(length).map_err(|error| anyhow::anyhow!("a frame's length: {error:?}"))?;
        let mut bytes = vec![0; length];
        self.input.read_exact(&mut bytes)?;
        wire::decode(&bytes).map(Some).map_err(|error| anyhow::anyhow!("a frame: {error:?}"))
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.output.write_all(bytes)?;
        Ok(self.output.flush()?)
    }

    /// Makes a system call; `None` when the system has ended.
    pub fn call(&mut self, number: u64, words: Words, message: &[u8]) -> anyhow::Result<Option<Return>> {
        let message = MessagePage::from_slice(message).ok().context("more than a message page")?;
        let call = FromPager::Call(SystemCall { number, words, message });
        let mut buffer = vec![0; LENGTH + FRAME];
        let used = host::encode(&call, &mut buffer).map_err(|error| anyhow::anyhow!("a frame: {error:?}"))?;
        self.write(&buffer[..used])?;
        match self.read()? {
            Some(ToPager::Return(back)) => Ok(Some(back)),
            Some(ToPager::Boot(_)) => bail!("a second Boot"),
            None => Ok(None),
        }
    }
}
