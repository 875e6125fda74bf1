//! The figures of a run: as JSON for programs, as a table for people.

mod reasons;

use crate::console::SystemLine;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// The speaker whose figures are the system's own.
const KERNEL: &str = "ukernel";

/// Every figure that kernel and servers reported, in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    all: Vec<Figure>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Figure {
    speaker: String,
    key: String,
    value: u64,
}

impl Figures {
    /// Takes a figure from a system line, if it is one; the last of a name counts.
    pub fn take(&mut self, line: &SystemLine) {
        let Some((key, value)) = line.figure() else { return };
        let exit = key.strip_prefix("exits.").filter(|_| line.speaker == KERNEL).and_then(reasons::name);
        let key = exit.map_or_else(|| key.to_owned(), |name| format!("exits.{name}"));
        match self.all.iter_mut().find(|figure| figure.speaker == line.speaker && figure.key == key) {
            Some(figure) => figure.value = value,
            None => self.all.push(Figure { speaker: line.speaker.clone(), key, value }),
        }
    }

    /// Whether nothing was reported.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// A figure of the kernel's.
    #[must_use]
    pub fn kernel(&self, key: &str) -> Option<u64> {
        self.of(KERNEL, key)
    }

    /// A figure of `speaker`'s.
    #[must_use]
    pub fn of(&self, speaker: &str, key: &str) -> Option<u64> {
        self.all.iter().find(|figure| figure.speaker == speaker && figure.key == key).map(|figure| figure.value)
    }

    /// The figures of `speaker`, in the order they came.
    pub fn all_of<'a>(&'a self, speaker: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
        self.all
            .iter()
            .filter(move |figure| figure.speaker == speaker)
            .map(|figure| (figure.key.as_str(), figure.value))
    }

    /// The servers that reported figures.
    #[must_use]
    pub fn servers(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for figure in self.all.iter().filter(|figure| figure.speaker != KERNEL) {
            if !names.contains(&figure.speaker.as_str()) {
                names.push(&figure.speaker);
            }
        }
        names
    }
}

/// What a summary tells besides the figures.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The system's name.
    pub system: &'a str,
    /// One word: done, failed, timeout.
    pub status: &'a str,
    /// The exit status of xtask.
    pub exit_status: u8,
    /// Why it ended.
    pub reason: &'a str,
    /// What kernel and servers called an error.
    pub errors: &'a [String],
    /// The machine's name.
    pub machine: &'a str,
    /// Seconds by the clock on the wall.
    pub seconds: f64,
}

/// The summary as JSON: dotted names of figures become nested objects, servers are under `servers`. The keys that
/// every summary has are null where the system did not report them.
#[must_use]
pub fn json(facts: &Facts<'_>, figures: &Figures) -> Value {
    let mut summary = Map::new();
    summary.insert("system".into(), json!(facts.system));
    summary.insert("status".into(), json!(facts.status));
    summary.insert("exit_status".into(), json!(facts.exit_status));
    summary.insert("reason".into(), json!(facts.reason));
    summary.insert("errors".into(), json!(facts.errors));
    summary.insert("machine".into(), json!(facts.machine));
    summary.insert("wall_seconds".into(), json!((facts.seconds * 1000.0).round() / 1000.0));
    summary.insert("ticks".into(), Value::Null);
    summary.insert("exits".into(), json!({}));
    for key in ["count", "pages_granted", "ticks_p50", "ticks_p99"] {
        nest(&mut summary, &["faults", key], Value::Null);
    }
    summary.insert("ledger_matches_ept".into(), Value::Null);
    for (key, value) in figures.all_of(KERNEL) {
        // Names of tasks have no dots; `task.<name>.<figure>` nests like the others.
        let value = if key == "ledger_matches_ept" { json!(value == 1) } else { json!(value) };
        nest(&mut summary, &key.split('.').collect::<Vec<_>>(), value);
    }
    let mut servers = Map::new();
    for server in figures.servers() {
        let mut own = Map::new();
        for (key, value) in figures.all_of(server) {
            nest(&mut own, &key.split('.').collect::<Vec<_>>(), json!(value));
        }
        servers.insert(server.to_owned(), Value::Object(own));
    }
    summary.insert("servers".into(), Value::Object(servers));
    Value::Object(summary)
}

/// Puts `value` under a path of names. A name that has a value of its own already keeps it under `total`.
fn nest(map: &mut Map<String, Value>, path: &[&str], value: Value) {
    match path {
        [] => {}
        [last] => match map.get_mut(*last) {
            Some(Value::Object(below)) => nest(below, &["total"], value),
            _ => {
                map.insert((*last).to_owned(), value);
            }
        },
        [first, rest @ ..] => {
            let below = map.entry(*first).or_insert_with(|| json!({}));
            if !below.is_object() {
                *below = json!({ "total": below.take() });
            }
            if let Value::Object(below) = below {
                nest(below, rest, value);
            }
        }
    }
}

/// The summary for people.
#[must_use]
pub fn table(facts: &Facts<'_>, figures: &Figures) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{} on {}: {} ({})", facts.system, facts.machine, facts.status, facts.reason);
    let row = |text: &mut String, name: &str, value: String| {
        let _ = writeln!(text, "  {name:<24} {value:>20}");
    };
    if let Some(ticks) = figures.kernel("ticks") {
        row(&mut text, "ticks", grouped(ticks));
    }
    row(&mut text, "wall", format!("{:.1} s", facts.seconds));
    if let Some(matches) = figures.kernel("ledger_matches_ept") {
        row(&mut text, "ledger matches EPT", if matches == 1 { "yes" } else { "NO" }.to_owned());
    }
    group(&mut text, "exits by reason", &exits(figures));
    group(&mut text, "faults", &under(figures, "faults"));
    group(&mut text, "IPC", &under(figures, "ipc"));
    group(&mut text, "tasks", &under(figures, "task"));
    for server in figures.servers() {
        group(&mut text, server, &figures.all_of(server).collect::<Vec<_>>());
    }
    let shown = ["exits.", "faults.", "ipc.", "task."];
    let rest = figures.all_of(KERNEL).filter(|(key, _)| {
        !shown.iter().any(|group| key.starts_with(group)) && *key != "ticks" && *key != "ledger_matches_ept"
    });
    group(&mut text, "kernel", &rest.collect::<Vec<_>>());
    text
}

/// Exits with the most frequent first, as `perf kvm stat` has them.
fn exits(figures: &Figures) -> Vec<(&str, u64)> {
    let mut exits = under(figures, "exits");
    exits.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    exits
}

fn under<'a>(figures: &'a Figures, group: &str) -> Vec<(&'a str, u64)> {
    let own = |(key, value): (&'a str, u64)| Some((key.strip_prefix(group)?.strip_prefix('.')?, value));
    figures.all_of(KERNEL).filter_map(own).collect()
}

fn group(text: &mut String, title: &str, rows: &[(&str, u64)]) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(text, "{title}");
    for (name, value) in rows {
        let _ = writeln!(text, "  {name:<24} {:>20}", grouped(*value));
    }
}

/// A number with its thousands apart.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Kind;

    const FACTS: Facts<'static> = Facts {
        system: "linux",
        status: "done",
        exit_status: 0,
        reason: "the guest powered off",
        errors: &[],
        machine: "bochs",
        seconds: 1.5,
    };

    fn figures(lines: &[(&str, &str)]) -> Figures {
        let mut figures = Figures::default();
        for (speaker, text) in lines {
            let (speaker, text) = ((*speaker).to_owned(), (*text).to_owned());
            figures.take(&SystemLine { kind: Kind::Figure, speaker, text });
        }
        figures
    }

    #[test]
    fn the_json_nests_dotted_figures_and_keeps_servers_apart() {
        let figures = figures(&[
            ("ukernel", "ticks 100"),
            ("ukernel", "exits.10 3"),
            ("ukernel", "faults.count 22303"),
            ("ukernel", "faults.pages_granted 22300"),
            ("ukernel", "faults.ticks_p50 900"),
            ("ukernel", "faults.ticks_p99 1200"),
            ("ukernel", "task.vmm-mm.messages 9"),
            ("ukernel", "ledger_matches_ept 1"),
            ("vmm-mm", "pf_taken 123"),
            ("vcpu", "ports.unknown 3"),
        ]);
        let json = json(&FACTS, &figures);
        assert_eq!(json["status"], "done");
        assert_eq!(json["machine"], "bochs");
        assert_eq!(json["ticks"], 100);
        assert_eq!(json["exits"]["cpuid"], 3);
        assert_eq!(json["faults"]["count"], 22303);
        assert_eq!(json["faults"]["pages_granted"], 22300);
        assert_eq!(json["faults"]["ticks_p50"], 900);
        assert_eq!(json["faults"]["ticks_p99"], 1200);
        assert_eq!(json["ledger_matches_ept"], true);
        assert_eq!(json["task"]["vmm-mm"]["messages"], 9);
        assert_eq!(json["servers"]["vmm-mm"]["pf_taken"], 123);
        assert_eq!(json["servers"]["vcpu"]["ports"]["unknown"], 3);
    }

    #[test]
    fn every_promised_key_is_there_even_when_nothing_was_reported() {
        let json = json(&FACTS, &Figures::default());
        for path in ["/status", "/machine", "/ticks", "/exits", "/faults/count", "/faults/pages_granted"] {
            assert!(json.pointer(path).is_some(), "{path}");
        }
        for path in ["/faults/ticks_p50", "/faults/ticks_p99", "/ledger_matches_ept"] {
            assert!(json.pointer(path).is_some(), "{path}");
        }
    }

    #[test]
    fn a_name_that_is_also_a_group_keeps_its_value_as_total() {
        for lines in [["ports 3", "ports.unknown 1"], ["ports.unknown 1", "ports 3"]] {
            let figures = figures(&lines.map(|line| ("ukernel", line)));
            let json = json(&FACTS, &figures);
            assert_eq!((&json["ports"]["total"], &json["ports"]["unknown"]), (&json!(3), &json!(1)));
        }
    }

    #[test]
    fn the_table_shows_the_most_frequent_exit_first_and_every_server() {
        let figures = figures(&[
            ("ukernel", "exits.10 3"),
            ("ukernel", "exits.48 22303"),
            ("ukernel", "ledger_matches_ept 0"),
            ("vmm-mm", "pf_taken 123"),
        ]);
        let table = table(&FACTS, &figures);
        let place = |part: &str| table.find(part).expect(part);
        assert!(place("ept_violation") < place("cpuid"));
        assert!(place("22,303") < place("vmm-mm") && place("pf_taken") > place("vmm-mm"));
        assert!(table.contains("NO"), "{table}");
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
