//! The bytes of the pager's frames: one file that it sees too.

use anyhow::Context;
use std::os::unix::fs::FileExt;
use std::path::Path;
use tempfile::NamedTempFile;

/// Bytes of a frame.
pub const FRAME: usize = 4096;

/// The file.
pub struct Frames {
    file: NamedTempFile,
    first: u64,
    count: u64,
}

impl Frames {
    /// Frames `first..first + count`, full of what nobody expects there.
    ///
    /// # Errors
    /// No room for the file.
    pub fn new(first: u64, count: u64) -> anyhow::Result<Self> {
        let folder = Path::new("/dev/shm");
        let mut builder = tempfile::Builder::new();
        builder.prefix("faultline-frames-");
        let file = if folder.is_dir() { builder.tempfile_in(folder) } else { builder.tempfile() };
        let file = file.context("making the file of frames")?;
        let rubbish: Vec<u8> = (0..FRAME).map(|n| 0x5a ^ (n % 251) as u8).collect();
        let rubbish = rubbish.repeat(count as usize);
        file.as_file().write_all_at(&rubbish, 0).context("filling the file of frames")?;
        Ok(Self { file, first, count })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    fn at(&self, pfn: u64) -> anyhow::Result<u64> {
        let index = pfn.checked_sub(self.first).filter(|index| *index < self.count);
        Ok(index.with_context(|| format!("frame {pfn:#x} is not the pager's"))? * FRAME as u64)
    }

    /// The bytes of a frame.
    ///
    /// # Errors
    /// A frame that is not the pager's, a file that was cut.
    pub fn read(&self, pfn: u64) -> anyhow::Result<Vec<u8>> {
        let mut page = vec![0; FRAME];
        self.file.as_file().read_exact_at(&mut page, self.at(pfn)?).context("reading a frame")?;
        Ok(page)
    }

    /// Writes 8 bytes at `offset` of a frame.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn write(&self, pfn: u64, offset: usize, value: u64) -> anyhow::Result<()> {
        self.file.as_file().write_all_at(&value.to_le_bytes(), self.at(pfn)? + offset as u64).context("writing a frame")
    }

    /// Fills a frame with zeros.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn clear(&self, pfn: u64) -> anyhow::Result<()> {
        self.file.as_file().write_all_at(&[0; FRAME], self.at(pfn)?).context("clearing a frame")
    }
}
