//! What came of cases: a row each as it is done, the sum, and JUnit.

use super::Case;
use crate::status::Status;
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

/// How the row of a mutant is called, which has passed when it was caught.
pub const MUTANT: &str = "mutant::";

/// What came of a case.
#[derive(Clone, Debug)]
pub struct Row {
    /// The case.
    pub case: Case,
    /// Why it failed; nothing when it passed.
    pub failure: Option<String>,
    /// How long it took.
    pub seconds: f64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { name, obligations } = &self.case;
        let result = if self.failure.is_some() { "FAILED" } else { "ok" };
        write!(f, "{name:<72} {:<16} {result:>6} {:>6.2} s", obligations.join(" "), self.seconds)?;
        match &self.failure {
            Some(why) => write!(f, "\n    {}", why.replace('\n', "\n    ")),
            None => Ok(()),
        }
    }
}

/// All rows.
#[derive(Clone, Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    listed: usize,
}

impl Report {
    /// Takes a row.
    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Counts cases that were only listed.
    pub fn listed(&mut self, count: usize) {
        self.listed += count;
    }

    /// Whether nothing was tried or listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.listed == 0
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Whether a row behind the first `before` is of the case `name`.
    #[must_use]
    pub fn has(&self, before: usize, name: &str) -> bool {
        self.rows.iter().skip(before).any(|row| row.case.name == name)
    }

    fn failed(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.failure.is_some())
    }

    /// The sum in one line.
    #[must_use]
    pub fn closing_line(&self) -> String {
        let failed = self.failed().count();
        let obligations: BTreeSet<&String> = self.rows.iter().flat_map(|row| &row.case.obligations).collect();
        let mutants = self.rows.iter().filter(|row| row.failure.is_none() && row.case.name.starts_with(MUTANT)).count();
        let caught = if mutants == 0 { String::new() } else { format!("{mutants} mutants caught, ") };
        let passed = self.rows.len() - failed - mutants;
        format!("{passed} cases passed, {caught}{failed} failed; {} obligations checked", obligations.len())
    }

    /// The rows as JUnit's XML.
    #[must_use]
    pub fn junit(&self) -> String {
        let (mut text, seconds) = (String::new(), self.rows.iter().map(|row| row.seconds).sum::<f64>());
        let _ = writeln!(text, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
        let _ = writeln!(
            text,
            "<testsuites>\n<testsuite name=\"conformance\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"0\" \
             time=\"{seconds:.3}\">",
            self.rows.len(),
            self.failed().count()
        );
        for Row { case, failure, seconds } in &self.rows {
            let (class, name) = case.name.split_once("::").unwrap_or(("conformance", &case.name));
            let _ = writeln!(
                text,
                "<testcase classname=\"{}\" name=\"{}\" time=\"{seconds:.3}\">",
                escaped(class),
                escaped(name)
            );
            let _ = writeln!(
                text,
                "<properties><property name=\"obligations\" value=\"{}\"/></properties>",
                escaped(&case.obligations.join(" "))
            );
            if let Some(why) = failure {
                let first = why.lines().next().unwrap_or_default();
                let _ = writeln!(text, "<failure message=\"{}\">{}</failure>", escaped(first), escaped(why));
            }
            let _ = writeln!(text, "</testcase>");
        }
        text + "</testsuite>\n</testsuites>\n"
    }

    /// Says what failed and closes. A run that tried nothing is no success.
    #[must_use]
    pub fn finish(&self) -> Status {
        println!();
        self.failed().for_each(|row| println!("FAILED: {} ({})", row.case.name, row.case.obligations.join(" ")));
        println!("{}", self.closing_line());
        if self.failed().count() == 0 && !self.rows.is_empty() { Status::Done } else { Status::Error }
    }
}

/// Text inside of XML: what a pager wrote may have anything in it.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\n' => escaped += "&#10;",
            other if other.is_control() => escaped.push('?'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, failure: Option<&str>) -> Row {
        let case = Case { name: name.to_owned(), obligations: vec!["P5".to_owned(), "P6".to_owned()] };
        Row { case, failure: failure.map(str::to_owned), seconds: 0.25 }
    }

    fn report(rows: &[Row]) -> Report {
        Report { rows: rows.to_vec(), listed: 0 }
    }

    #[test]
    fn only_a_run_in_which_every_case_passed_is_a_success() {
        assert_eq!(report(&[]).finish(), Status::Error);
        assert_eq!(report(&[row("a::b", None)]).finish(), Status::Done);
        let mixed = report(&[row("a::b", None), row("a::c", Some("P5: why"))]);
        assert_eq!(mixed.finish(), Status::Error);
        assert_eq!(mixed.closing_line(), "1 cases passed, 1 failed; 2 obligations checked");
        let mutants = report(&[row("a::b", None), row("mutant::c", None), row("mutant::d", Some("it survived"))]);
        assert_eq!(mutants.closing_line(), "1 cases passed, 1 mutants caught, 1 failed; 2 obligations checked");
    }

    #[test]
    fn junit_counts_and_escapes() {
        let xml = report(&[row("a::b", None), row("a::c", Some("P5: <gfn> & \"so\"\n\u{1b}[0m"))]).junit();
        assert!(xml.contains("tests=\"2\" failures=\"1\""), "{xml}");
        assert!(xml.contains("<testcase classname=\"a\" name=\"c\" time=\"0.250\">"), "{xml}");
        assert!(xml.contains("<failure message=\"P5: &lt;gfn&gt; &amp; &quot;so&quot;\">"), "{xml}");
        assert!(!xml.contains('\u{1b}'), "{xml}");
    }
}
