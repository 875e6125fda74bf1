//! The table of docs/policies.md, the words that say who wins, and the picture.

use crate::paths;
use crate::progress::say;
use crate::summary::grouped;
use anyhow::Context;
use serde_json::Value;
use std::fmt::Write as _;

/// Between these lines of the page is what is written here.
const BEGIN: &str = "<!-- made by cargo xtask bench policies --write-docs -->\n";
const END: &str = "<!-- until here -->\n";

const HEAD: &str = "| workload | policy | ticks to finish | faults | pages granted | used | peak frames | pager | kernel | evictions, refaults |\n\
    | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n";

/// A cell in a few words.
pub fn short(cell: &Value) -> String {
    if cell["refused"] == true {
        return "refused".to_owned();
    }
    format!("{} ticks, {} faults", figure(&cell["ticks"]), figure(&cell["faults"]))
}

/// The whole table.
pub fn table(cells: &[Value]) -> String {
    let mut text = HEAD.to_owned();
    for cell in cells {
        let word = |key: &str| cell[key].as_str().unwrap_or_default();
        let _ = write!(text, "| {} | `{}` |", word("workload"), word("policy"));
        if cell["refused"] == true {
            let _ = writeln!(text, " refused: the slot is larger than the frames | | | | | | | |");
            continue;
        }
        for key in ["ticks", "faults", "granted", "used", "peak_frames", "ticks_pager", "ticks_kernel"] {
            let _ = write!(text, " {} |", figure(&cell[key]));
        }
        let _ = writeln!(text, " {}, {} |", figure(&cell["evictions"]), figure(&cell["refaults"]));
    }
    text
}

/// A number with its thousands apart; a dash where there is none.
fn figure(value: &Value) -> String {
    value.as_u64().map_or_else(|| "–".to_owned(), grouped)
}

/// Who is best at what, a line for each workload.
fn winners(cells: &[Value]) -> String {
    let mut names: Vec<&str> = cells.iter().filter_map(|cell| cell["workload"].as_str()).collect();
    names.dedup();
    let mut text = String::new();
    for name in names {
        let best = |key: &'static str| {
            let of = cells.iter().filter(|cell| cell["workload"] == name);
            let least = of.clone().filter_map(|cell| cell[key].as_u64()).min();
            let who = of.filter(|cell| cell[key].as_u64() == least && least.is_some());
            let who: Vec<String> =
                who.filter_map(|cell| cell["policy"].as_str()).map(|policy| format!("`{policy}`")).collect();
            if who.is_empty() { "none".to_owned() } else { who.join(", ") }
        };
        let _ = writeln!(
            text,
            "* **{name}**: soonest done under {}; fewest faults under {}; fewest frames under {}.",
            best("ticks"),
            best("faults"),
            best("peak_frames")
        );
    }
    text
}

/// Writes table and picture.
///
/// # Errors
/// A page without the place for the table; files that cannot be written.
pub fn write(cells: &[Value]) -> anyhow::Result<()> {
    let docs = paths::root().join("docs");
    let path = docs.join("policies.md");
    let text = std::fs::read_to_string(&path)?;
    let (before, rest) = text.split_once(BEGIN).context("docs/policies.md has no place for the table")?;
    let (_, after) = rest.split_once(END).context("docs/policies.md has no end of the table's place")?;
    std::fs::write(&path, format!("{before}{BEGIN}{}\n{}{END}{after}", table(cells), winners(cells)))?;
    std::fs::write(docs.join("policies.svg"), picture(cells))?;
    say("docs/policies.md and docs/policies.svg are written");
    Ok(())
}

/// Ticks to finish as bars, each workload in proportion to its slowest.
fn picture(cells: &[Value]) -> String {
    const ROW: usize = 16;
    let mut body = String::new();
    let (mut y, mut last) = (10, "");
    for cell in cells {
        let (workload, policy) =
            (cell["workload"].as_str().unwrap_or_default(), cell["policy"].as_str().unwrap_or_default());
        let of = cells.iter().filter(|cell| cell["workload"] == workload);
        let most = of.filter_map(|cell| cell["ticks"].as_u64()).max().unwrap_or(1);
        if workload != last {
            y += 2 * ROW;
            let _ = writeln!(
                body,
                "<text x=\"10\" y=\"{}\" font-weight=\"bold\">{workload}: ticks to finish</text>",
                y - 4
            );
            last = workload;
        }
        let _ = writeln!(body, "<text x=\"20\" y=\"{}\">{policy}</text>", y + 12);
        let (width, label) = match cell["ticks"].as_u64() {
            Some(ticks) => (ticks * 480 / most, figure(&cell["ticks"])),
            None => (0, "refused".to_owned()),
        };
        let _ = writeln!(body, "<rect x=\"120\" y=\"{y}\" width=\"{width}\" height=\"12\" fill=\"#4a7ab5\"/>");
        let _ = writeln!(body, "<text x=\"{}\" y=\"{}\">{label}</text>", 126 + width, y + 11);
        y += ROW;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"740\" height=\"{}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n",
        y + ROW
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cells() -> Vec<Value> {
        vec![
            json!({"workload": "fill", "policy": "demand", "ticks": 1_234_567, "faults": 10, "peak_frames": 3}),
            json!({"workload": "fill", "policy": "eager", "ticks": 1_000_000, "faults": 0, "peak_frames": 9}),
            json!({"workload": "overcommitted", "policy": "eager", "refused": true}),
        ]
    }

    #[test]
    fn the_table_has_a_row_for_each_cell_and_says_what_is_not_known() {
        let table = table(&cells());
        assert!(table.contains("| fill | `demand` | 1,234,567 | 10 | – | – | 3 | – | – | –, – |"), "{table}");
        assert!(table.contains("| overcommitted | `eager` | refused"), "{table}");
    }

    #[test]
    fn who_wins_is_said_for_each_workload() {
        let winners = winners(&cells());
        let fill = "**fill**: soonest done under `eager`; fewest faults under `eager`; fewest frames under `demand`.";
        assert!(winners.contains(fill), "{winners}");
        assert!(winners.contains("**overcommitted**: soonest done under none;"), "nobody could: {winners}");
    }

    #[test]
    fn the_picture_has_a_bar_for_each_cell() {
        let picture = picture(&cells());
        assert_eq!(picture.matches("<rect x=").count(), 3);
        assert!(picture.contains("width=\"480\"") && picture.contains("width=\"388\"") && picture.contains("refused"));
    }
}
