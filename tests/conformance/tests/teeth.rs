//! The kit has teeth: our pager passes every case with every policy that needs nothing else, and each flaw is found by
//! the case that is named with it, for the obligation that it breaks.

use conformance::case::{Case, Outcome, Trial};
use conformance::cases;
use conformance::hosted::flaw::Flaw;
use std::collections::BTreeSet;
use std::time::Duration;

/// Our pager as a program, with arguments.
fn trial(arguments: &str, seconds: u64) -> Trial {
    let command = format!("'{}' {arguments}", env!("CARGO_BIN_EXE_hosted"));
    Trial { command, options: Vec::new(), deadline: Duration::from_secs(seconds) }
}

fn case(name: &str) -> Case {
    *cases::all().iter().find(|case| case.name == name).unwrap_or_else(|| panic!("there is no case {name}"))
}

fn failures(trial: &Trial) -> Vec<Outcome> {
    cases::all().iter().map(|case| case.outcome(trial)).filter(|outcome| outcome.failure.is_some()).collect()
}

#[test]
fn our_pager_passes_every_case() {
    let failed = failures(&trial("", 60));
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_flaw_is_found_by_its_case_for_its_obligation() {
    let mut survivors = Vec::new();
    for flaw in Flaw::ALL {
        // Silence is waited for; everything else is quick.
        let seconds = if matches!(flaw, Flaw::Silent | Flaw::Lingers | Flaw::Broods) { 2 } else { 60 };
        let outcome = case(flaw.case()).outcome(&trial(&format!("--fault {}", flaw.name()), seconds));
        let found = outcome.failure.as_ref().is_some_and(|why| names(why, flaw.obligation()));
        if !found {
            survivors.push(format!("{}: {:?}", flaw.name(), outcome.failure));
        }
    }
    assert!(survivors.is_empty(), "{} of {} survive:\n{}", survivors.len(), Flaw::ALL.len(), survivors.join("\n"));
}

/// Whether the failure names the obligation.
fn names(failure: &str, obligation: &str) -> bool {
    failure.split(|letter: char| !letter.is_ascii_alphanumeric()).any(|word| word == obligation)
}

#[test]
fn a_flaw_breaks_nothing_that_its_case_does_not_check() {
    for flaw in Flaw::ALL {
        assert!(case(flaw.case()).checks.contains(&flaw.obligation()), "{}: {}", flaw.name(), flaw.case());
    }
}

#[test]
fn every_obligation_has_a_flaw_that_breaks_it() {
    let broken: BTreeSet<&str> = Flaw::ALL.iter().map(|flaw| flaw.obligation()).collect();
    let all: Vec<String> = conformance::spec::obligations('P').into_iter().map(|(number, _)| number).collect();
    let whole: Vec<&String> = all.iter().filter(|number| !broken.contains(number.as_str())).collect();
    assert!(whole.is_empty(), "no flaw breaks {whole:?}");
}
