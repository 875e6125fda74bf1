//! The second pager: that the specification is enough shows in how little code it takes.

use anyhow::Context;
use std::path::Path;

/// Where it is, from the repository's root.
pub const FOLDER: &str = "servers/pager-c";
/// All lines of its `.c` and `.h` files, comments and empty ones too.
pub const LINES: usize = 600;

/// How many lines the C files of the folder have.
///
/// # Errors
/// A folder or a file that cannot be read; more lines than [`LINES`].
pub fn lines(folder: &Path) -> anyhow::Result<usize> {
    let mut lines = 0;
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "c" || extension == "h") {
            let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            lines += text.lines().count();
        }
    }
    anyhow::ensure!(
        lines <= LINES,
        "{}: small-second-pager: {lines} lines in .c and .h files, with comments and empty lines; {LINES} at most",
        folder.display()
    );
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::{LINES, lines};

    #[test]
    fn every_line_counts_and_600_are_enough() {
        let folder = std::env::temp_dir().join(format!("second-pager-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("a file");
        write("pager.c", &"\n".repeat(LINES - 2));
        write("pager.h", "/* a comment */\n\n");
        write("Makefile", &"\n".repeat(100));
        assert_eq!(lines(&folder).expect("as many as there may be"), LINES);
        write("more.c", "int more;\n");
        let told = lines(&folder).expect_err("one too many").to_string();
        assert!(told.contains("601 lines in .c and .h files") && told.contains("600 at most"), "{told}");
        std::fs::remove_dir_all(&folder).expect("it goes");
        assert!(lines(&folder).is_err(), "a folder that is not there has no number of lines");
    }
}
