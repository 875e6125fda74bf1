//! The choices that are a matter of taste, behind one trait: the pipeline asks, a policy answers from facts.
//!
//! A policy sees what happened, never tables or frames, so it cannot map what is not there or take what is in use.

mod demand;

pub use demand::Demand;

use crate::fault::PageFault;

/// What a policy is asked.
pub trait Policy {
    /// Its name in the manifest.
    const NAME: &'static str;

    /// How much to map around a fault in RAM: the fault's page is always mapped, and what the answer asks for beyond
    /// it is cut to the slot and to one table.
    fn around(&mut self, fault: &PageFault) -> Around;
}

/// How much to map around a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Around {
    /// The page that faulted.
    ThePage,
}

/// The policy that the manifest picked.
#[derive(Debug)]
pub enum Chosen {
    /// See [`Demand`].
    Demand(Demand),
}

impl Chosen {
    /// The policy of that name; `None` for an unknown one.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            Demand::NAME => Some(Self::Demand(Demand)),
            _ => None,
        }
    }

    /// Every name that [`Self::by_name`] knows.
    pub const NAMES: &'static [&'static str] = &[Demand::NAME];

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Demand(_) => Demand::NAME,
        }
    }

    /// See [`Policy::around`].
    #[inline]
    pub fn around(&mut self, fault: &PageFault) -> Around {
        match self {
            Self::Demand(policy) => policy.around(fault),
        }
    }
}
