//! The obligations, as `ipc-proto/SPEC.md` numbers them.

/// The page.
const SPEC: &str = include_str!("../../../ipc-proto/SPEC.md");

/// Every obligation that begins with `side` (`P` or `K`): number and sentence.
#[must_use]
pub fn obligations(side: char) -> Vec<(String, String)> {
    let rows = SPEC.lines().filter_map(|line| line.strip_prefix("| "));
    rows.filter_map(|row| {
        let (number, sentence) = row.split_once(" | ")?;
        let digits = number.strip_prefix(side)?;
        let numbered = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        numbered.then(|| (number.to_owned(), sentence.trim_end_matches(" |").to_owned()))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;
    use std::collections::BTreeSet;

    #[test]
    fn obligations_are_numbered_without_a_gap() {
        for (side, least) in [('P', 40), ('K', 30)] {
            let numbers: Vec<String> = obligations(side).into_iter().map(|(number, _)| number).collect();
            let wanted: Vec<String> = (1..=numbers.len()).map(|n| format!("{side}{n}")).collect();
            assert_eq!(numbers, wanted);
            assert!(numbers.len() >= least);
        }
    }

    #[test]
    fn every_obligation_of_pagers_has_a_case_and_every_case_an_obligation() {
        let known: BTreeSet<String> = obligations('P').into_iter().map(|(number, _)| number).collect();
        let checked: BTreeSet<String> =
            cases::all().iter().flat_map(|case| case.checks).map(|number| (*number).to_owned()).collect();
        assert_eq!(known, checked);
        assert!(cases::all().iter().all(|case| !case.checks.is_empty()));
    }

    #[test]
    fn names_of_cases_are_different() {
        let names: BTreeSet<&str> = cases::all().iter().map(|case| case.name).collect();
        assert_eq!(names.len(), cases::all().len());
    }
}
