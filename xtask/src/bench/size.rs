//! How large the kernel is: its file's sections by `size` of binutils, its lines as `cargo xtask check` counts them.

use super::row::Measured;
use crate::build;
use crate::check;
use crate::setup::ToolchainChoice;
use anyhow::Context;
use std::process::Command;

/// Builds the kernel and looks at it.
///
/// # Errors
/// A build that fails, a tool that does not run.
pub fn measure(toolchain: ToolchainChoice) -> anyhow::Result<Vec<(&'static str, Measured)>> {
    let kernel = build::programs(&["ukernel"], toolchain)?.join("ukernel");
    let output = Command::new("size").arg("--format=berkeley").arg(&kernel).output().context("starting size")?;
    anyhow::ensure!(output.status.success(), "size ends with {}", output.status);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let [text, data, bss] = sizes(&said).with_context(|| format!("size did not say what it should:\n{said}"))?;
    let lines = check::kernel_lines()? as f64;
    let how = format!("{data} bytes are initialized, {bss} are zero at the start, boot stacks and tables with them");
    Ok(vec![
        ("size-text", Measured::of(text as f64, "`size` of the kernel's file, as it is shipped")),
        ("size-data", Measured::of((data + bss) as f64, how)),
        (
            "size-lines",
            Measured::of(lines, "Rust and assembly without comments, empty lines and tests, by `cargo xtask check`"),
        ),
    ])
}

/// Text, data and bss in the second line of what `size` says.
fn sizes(said: &str) -> Option<[u64; 3]> {
    let mut numbers = said.lines().nth(1)?.split_whitespace().map_while(|word| word.parse().ok());
    Some([numbers.next()?, numbers.next()?, numbers.next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_sizes_are_found_and_nothing_is_made_up() {
        let said = "   text\t   data\t    bss\t    dec\t    hex\tfilename\n 108000\t   4096\t 998400\t1110496\t 10f1e0\tukernel\n";
        assert_eq!(sizes(said), Some([108_000, 4096, 998_400]));
        assert_eq!(sizes("size: ukernel: No such file\n"), None);
    }
}
