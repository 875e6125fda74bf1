//! A case: what is tried, and which obligations it checks.

use crate::kit::Kit;
use crate::setup::Setup;
use serde::Serialize;
use std::time::{Duration, Instant};

/// A case.
#[derive(Clone, Copy)]
pub struct Case {
    /// What is promised: `noun::sentence`.
    pub name: &'static str,
    /// The obligations of SPEC §13 that it checks.
    pub checks: &'static [&'static str],
    /// Tries it on a pager that receives.
    pub run: fn(&mut Kit) -> anyhow::Result<()>,
}

/// What came of a case.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The case.
    pub name: String,
    /// What it checks.
    pub obligations: Vec<String>,
    /// Why it failed; nothing when it passed.
    pub failure: Option<String>,
    /// How long it took.
    pub seconds: f64,
}

/// How pagers are tried.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The shell's command that starts the pager.
    pub command: String,
    /// Options of its task in the manifest.
    pub options: Vec<(String, String)>,
    /// When an answer is due.
    pub deadline: Duration,
}

impl Case {
    /// Tries the case on a pager of its own. Whatever that does, it ends with the case.
    #[must_use]
    pub fn outcome(&self, trial: &Trial) -> Outcome {
        let start = Instant::now();
        let setup = Setup { options: trial.options.clone(), deadline: trial.deadline, ..Setup::default() };
        let tried = Kit::boot(&setup, &trial.command).and_then(|mut kit| {
            (self.run)(&mut kit)?;
            kit.finish()
        });
        Outcome {
            name: self.name.to_owned(),
            obligations: self.checks.iter().map(|number| (*number).to_owned()).collect(),
            failure: tried.err().map(|error| format!("{error:#}")),
            seconds: start.elapsed().as_secs_f64(),
        }
    }
}
