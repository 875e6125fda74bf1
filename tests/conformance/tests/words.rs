//! Every way to be wrong that the book lists has a case that is there.

use conformance::cases;

/// What must be listed.
const WORDS: &[&str] = &[
    "valid",
    "late",
    "duplicate",
    "out of order",
    "stale seq",
    "wrong gfn",
    "wrong size",
    "misaligned and mixed-level runs",
    "run past the slot",
    "run past the address width",
    "frame not owned",
    "kernel object",
    "frame of another VM",
    "rights beyond the slot",
    "write without read",
    "bad memory type",
    "too many grants",
    "truncated and oversized messages",
    "unknown variant",
    "unknown version",
    "flood",
    "silence",
    "death mid-message",
    "death between fault and reply",
    "reply to a fault never asked",
    "table pool empty",
    r#""fixed" that fixes nothing"#,
];

/// The rows of the book's table: what is wrong, and the cases for it.
fn rows() -> Vec<(&'static str, Vec<&'static str>)> {
    let book = include_str!("../../../docs/protocol.md");
    let (_, table) = book.split_once("| wrong | cases |").expect("the table is there");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let (word, cases) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        (word, cases.split('`').skip(1).step_by(2).collect())
    })
    .collect()
}

#[test]
fn every_way_to_be_wrong_has_cases_that_are_there() {
    let kernel = include_str!("../../scripted/kernel.toml");
    let pager = cases::all();
    let rows = rows();
    assert_eq!(rows.iter().map(|(word, _)| *word).collect::<Vec<_>>(), WORDS);
    for (word, cases) in rows {
        assert!(!cases.is_empty(), "{word}: no case");
        for case in cases {
            let known = pager.iter().any(|other| other.name == case) || kernel.contains(&format!("\n\"{case}\" = "));
            assert!(known, "{word}: there is no case {case}");
        }
    }
}
