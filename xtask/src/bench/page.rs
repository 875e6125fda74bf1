//! `docs/performance.md` and its picture, made from the list of rows.

use super::host;
use super::table::figure;
use crate::paths;
use crate::progress::say;
use anyhow::Context;
use serde_json::Value;
use std::fmt::Write as _;

/// What stays the same from one measurement to the next.
const HEAD: &str = include_str!("page_head.md");

/// What stands between a figure and its goal, as far as the traces show it.
const BETWEEN: &[(&str, &str)] = &[
    ("K1", "two system calls with their stubs, which give every register up, and two changes of address space"),
    (
        "K2",
        "thirty registers pushed and popped, five VMREADs, and two ring crossings are the half of it; the other half is \
            finding the vCPU, the thread and the VM by their numbers, each with its bound checked",
    ),
    ("K3", "the pager's own ninety instructions and the checks of the grant"),
    ("K4", "ownership, sequence number, shape and table are checked one by one, each against memory"),
    ("K5", "each page is two compare-exchanges in the kernel, and in the pager an entry that is looked at and written"),
    ("K6", "two passes over the run, each a compare-exchange a page: the claim of its frame, and its entry"),
    ("K7", "thirty registers pushed and popped, and four VMREADs, for one entry that is changed"),
    (
        "K8",
        "two passes over the run, the entry by exchange and the frame's word by compare-exchange, and one call from the pager",
    ),
    ("K9", "a change of address space, and two VMREADs and a VMWRITE to step over the instruction"),
    ("K10", "the table frames are taken under a lock and linked one by one"),
    ("K11", "a fault for each page of 4 KiB that is touched for the first time, and an exit for each port access"),
    (
        "G4",
        "the server fetches and decodes the instruction by walking the guest's page tables, with state that it asks \
            for one VMCS field after the other",
    ),
    ("L2", "a slot is larger than a region of vm-memory, and the look-up is bounds-checked"),
];

/// Writes both from a list of rows.
///
/// # Errors
/// Files that cannot be written; the picture's own.
pub fn write(rows: &Value) -> anyhow::Result<()> {
    let data = paths::target().join("bench.json");
    std::fs::write(&data, serde_json::to_string_pretty(rows)?)?;
    let docs = paths::root().join("docs");
    host::picture("picture", &data, &docs.join("performance.svg"))?;
    host::picture("growth", &data, &docs.join("growth.svg"))?;
    let text = text(rows.as_array().context("the rows are no list")?)?;
    std::fs::write(docs.join("performance.md"), text)?;
    say("docs/performance.md, docs/performance.svg and docs/growth.svg are written");
    Ok(())
}

fn text(rows: &[Value]) -> anyhow::Result<String> {
    let mut text = HEAD.to_owned();
    text.push_str("\n## The figures\n\n| | what | value | unit | commit | | goal | |\n");
    text.push_str("| --- | --- | ---: | --- | ---: | --- | ---: | --- |\n");
    for row in rows {
        let word = |key: &str| row[key].as_str().unwrap_or_default();
        let number = |key: &str| figure(row[key].as_f64());
        let holds = |key: &str| row[key].as_bool().map_or("", |holds| if holds { "yes" } else { "**no**" });
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            word("id"),
            word("what"),
            number("value"),
            word("unit"),
            number("commit"),
            holds("commit_holds"),
            number("goal"),
            holds("goal_holds"),
        )?;
    }
    text.push_str(&growth(rows));
    text.push_str("\n## How each was obtained, and what is behind it\n\n");
    for row in rows {
        let id = row["id"].as_str().unwrap_or_default();
        writeln!(text, "* **{id}** {}.", row["how"].as_str().unwrap_or_default())?;
        for (key, words) in [("events", "Behind it"), ("stages", "Where the ticks go"), ("peers", "Elsewhere")] {
            let parts = parts(&row[key]);
            if !parts.is_empty() {
                writeln!(text, "  {words}: {parts}.")?;
            }
        }
        let missed =
            [&row["commit_holds"], &row["goal_holds"]].contains(&&Value::Bool(false)) || row["value"].is_null();
        let between = BETWEEN.iter().find(|(known, _)| *known == id).filter(|_| missed);
        if let Some((_, between)) = between {
            writeln!(text, "  What stands between: {between}.")?;
        }
    }
    Ok(text)
}

/// The series, as a table each.
fn growth(rows: &[Value]) -> String {
    let mut text = String::from("\n## How cost grows\n\n![Ticks of a first touch as the system grows](growth.svg)\n");
    for row in rows {
        let points: Vec<_> = row["points"].as_array().into_iter().flatten().collect();
        if points.is_empty() {
            continue;
        }
        let line = |at: usize| {
            points.iter().map(|point| point[at].to_string().replace('"', "")).collect::<Vec<_>>().join(" | ")
        };
        let _ = writeln!(
            text,
            "\n| {} | {} |\n| --- |{}\n| ticks | {} |",
            row["id"].as_str().unwrap_or_default(),
            line(0),
            " ---: |".repeat(points.len()),
            line(1)
        );
    }
    text
}

/// The members of an object that are not zero.
fn parts(object: &Value) -> String {
    let members = object.as_object().into_iter().flatten();
    let some: Vec<String> = members
        .filter_map(|(name, value)| Some((name, value.as_f64().filter(|value| *value != 0.0)?)))
        .map(|(name, value)| format!("{} {}", name.replace('_', " "), figure(Some(value))))
        .collect();
    some.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_page_says_what_stands_between_a_figure_and_its_goal() {
        let row = |holds: bool| json!({"id": "K4", "value": 295, "commit_holds": holds, "goal_holds": holds});
        assert!(text(&[row(false)]).is_ok_and(|text| text.contains("What stands between: ownership")));
        assert!(text(&[row(true)]).is_ok_and(|text| !text.contains("What stands between")));
    }
}
