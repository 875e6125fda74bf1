//! The rows for people.

use super::row::Row;
use std::fmt::Write as _;

/// The table, and below it how each figure was obtained.
#[must_use]
pub fn text(rows: &[Row]) -> String {
    let mut text = String::new();
    let header = ["", "", "value", "unit", "commit", "", "goal", ""];
    line(&mut text, &header.map(str::to_owned));
    for row in rows {
        let promise = row.promise;
        line(
            &mut text,
            &[
                promise.id.to_owned(),
                promise.what.to_owned(),
                figure(row.measured.value),
                promise.unit.to_owned(),
                figure(promise.commit),
                verdict(row.holds(promise.commit)).to_owned(),
                figure(promise.goal),
                verdict(row.holds(promise.goal)).to_owned(),
            ],
        );
    }
    text.push('\n');
    for row in rows {
        let _ = writeln!(text, "{:<9} {}", row.promise.id, row.measured.how);
        if let Some(events) = &row.measured.events {
            let _ = writeln!(text, "{:<9} behind it: {}", "", events.text());
        }
    }
    let bound = rows.iter().filter(|row| row.promise.commit.is_some());
    let held = bound.clone().filter(|row| row.holds(row.promise.commit) == Some(true)).count();
    let missing = bound.clone().filter(|row| row.measured.value.is_none()).count();
    let _ = writeln!(text, "\ncommit: {held} of {} hold, {missing} cannot be measured yet", bound.count());
    text
}

fn line(text: &mut String, [id, what, value, unit, commit, holds, goal, reached]: &[String; 8]) {
    let line = format!("{id:<9} {what:<43} {value:>8} {unit:<23} {commit:>7} {holds:<3} {goal:>7} {reached:<3}");
    let _ = writeln!(text, "{}", line.trim_end());
}

/// A figure with as many places as it has meaning; nothing for none.
#[must_use]
pub fn figure(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value.fract() == 0.0 => format!("{value:.0}"),
        Some(value) if value < 10.0 => format!("{value:.3}"),
        Some(value) => format!("{value:.1}"),
    }
}

/// Whether a bound is kept, in a word.
#[must_use]
pub const fn verdict(holds: Option<bool>) -> &'static str {
    match holds {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::{ALL, Measured};

    #[test]
    fn a_row_without_a_figure_is_no_row_that_holds() {
        let row = |measured| Row { promise: &ALL[0], measured };
        let rows = [row(Measured::of(405.0, "so")), row(Measured::of(405.5, "so")), row(Measured::not("not yet"))];
        let text = text(&rows);
        assert!(text.contains("commit: 1 of 3 hold, 1 cannot be measured yet"), "{text}");
        assert!(text.contains("not yet"), "{text}");
    }
}
