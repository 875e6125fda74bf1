//! The archive of an initial file system: cpio, format "newc" (Linux, Documentation/driver-api/early-userspace/
//! buffer-format.rst). Times are zero and inodes are counted, so the same input gives the same bytes.

use std::path::Path;

/// File types, as in `st_mode`.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// Collects files; their folders must be added before them.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// A folder.
    pub fn folder(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// A file that can be executed.
    pub fn program(&mut self, path: &str, content: &[u8]) {
        self.entry(path, REGULAR | 0o755, (0, 0), content);
    }

    /// A file with what `from` holds, which can be executed if that can be.
    ///
    /// # Errors
    /// `from` cannot be read.
    pub fn copy(&mut self, path: &str, from: &Path) -> std::io::Result<()> {
        self.program(path, &std::fs::read(from)?);
        Ok(())
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, to: &str) {
        self.entry(path, SYMLINK | 0o777, (0, 0), to.as_bytes());
    }

    /// A character device, by major and minor number.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, CHARACTER | 0o600, (major, minor), &[]);
    }

    /// The finished archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let name = path.trim_start_matches('/');
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            content.len() as u32,
            0,
            0,
            device.0,
            device.1,
            name.len() as u32 + 1,
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, mode, device and content of an entry.
    type Entry = (String, u32, (u32, u32), Vec<u8>);

    /// The entries, read back independently of how they were written.
    fn entries(mut bytes: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        while !bytes.is_empty() {
            assert_eq!(&bytes[..6], b"070701");
            let field = |n: usize| {
                let text = std::str::from_utf8(&bytes[6 + n * 8..14 + n * 8]).expect("hexadecimal digits");
                u32::from_str_radix(text, 16).expect("hexadecimal digits")
            };
            let (size, name_size) = (field(6) as usize, field(11) as usize);
            let name = String::from_utf8(bytes[110..110 + name_size - 1].to_vec()).expect("text");
            let content = (110 + name_size).next_multiple_of(4);
            entries.push((name, field(1), (field(9), field(10)), bytes[content..content + size].to_vec()));
            bytes = &bytes[(content + size).next_multiple_of(4)..];
        }
        entries
    }

    #[test]
    fn an_archive_reads_back_as_it_was_written() {
        let mut archive = Archive::default();
        archive.folder("/dev");
        archive.device("/dev/console", 5, 1);
        archive.program("/init", b"#!/bin/sh\n1");
        archive.link("/bin", "usr/bin");
        let expected = [
            ("dev", 0o040_755, (0, 0), ""),
            ("dev/console", 0o020_600, (5, 1), ""),
            ("init", 0o100_755, (0, 0), "#!/bin/sh\n1"),
            ("bin", 0o120_777, (0, 0), "usr/bin"),
            ("TRAILER!!!", 0, (0, 0), ""),
        ];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(name, mode, device, content)| (name.to_owned(), mode, device, content.as_bytes().to_vec()))
            .collect();
        assert_eq!(entries(&archive.finish()), expected);
    }
}
