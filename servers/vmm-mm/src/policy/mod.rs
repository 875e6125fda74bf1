//! The choices that are a matter of taste, behind one trait: the pipeline asks, a policy answers from facts.
//!
//! A policy sees what happened, never tables or frames, so it cannot map what is not there or take what is in use.

mod demand;
mod eager;
mod fault_around;
mod huge;

pub use demand::Demand;
pub use eager::Eager;
pub use fault_around::FaultAround;
pub use huge::Huge;

use crate::fault::PageFault;
use ipc_proto::grant::Level;
use ipc_proto::slot::Slot;

/// What a policy is asked.
pub trait Policy {
    /// Its name in the manifest.
    const NAME: &'static str;

    /// An option of the manifest, `policy.KEY = VALUE`.
    ///
    /// # Errors
    /// `UnknownOption`, `BadValue`; nothing has changed then.
    fn set(&mut self, key: &str, value: &str) -> Result<(), Refusal> {
        let _ = (key, value);
        Err(Refusal::UnknownOption)
    }

    /// What to map for a fault in RAM. The fault's page is always mapped; what is asked for beyond it is cut to what
    /// slot, frames, memory types and tables allow.
    fn advise(&mut self, fault: &PageFault) -> Advice;

    /// What to map of a new slot at once.
    fn populate(&mut self, slot: &Slot) -> Populate {
        let _ = slot;
        Populate::Nothing
    }

    /// Whether large pages are mapped without execution.
    fn nx_huge(&self) -> NxHuge {
        NxHuge::Off
    }
}

/// What to map for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// How many small pages, the fault's own included: 1 to 512. They lie at a multiple of that.
    pub around: u16,
    /// The largest page.
    pub level: Level,
}

impl Advice {
    /// The page that faulted.
    pub const THE_PAGE: Self = Self { around: 1, level: Level::Page };
}

/// What to map of a new slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Populate {
    /// Nothing: the guest faults it in.
    Nothing,
    /// All of it.
    All,
}

/// Whether large pages are mapped without execution (KVM's `nx_huge_pages`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NxHuge {
    /// With the slot's rights.
    Off,
    /// Without; a fetch splits the page.
    On,
}

/// Why an option is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The policy has no option of that name.
    UnknownOption,
    /// The option has no such value.
    BadValue,
}

macro_rules! policies {
    ($($policy:ident = $new:expr;)*) => {
        /// The policy that the manifest picked.
        #[derive(Debug)]
        pub enum Chosen {
            $(#[doc = concat!("See [`", stringify!($policy), "`].")] $policy($policy),)*
        }

        impl Chosen {
            /// The policy of that name; `None` for an unknown one.
            #[must_use]
            pub fn by_name(name: &str) -> Option<Self> {
                match name {
                    $($policy::NAME => Some(Self::$policy($new)),)*
                    _ => None,
                }
            }

            /// Every name that [`Self::by_name`] knows.
            pub const NAMES: &'static [&'static str] = &[$($policy::NAME,)*];

            /// Its name.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$policy(_) => $policy::NAME,)*
                }
            }

            /// See [`Policy::set`].
            ///
            /// # Errors
            /// `UnknownOption`, `BadValue`.
            pub fn set(&mut self, key: &str, value: &str) -> Result<(), Refusal> {
                match self {
                    $(Self::$policy(policy) => policy.set(key, value),)*
                }
            }

            /// See [`Policy::advise`].
            #[inline]
            pub fn advise(&mut self, fault: &PageFault) -> Advice {
                match self {
                    $(Self::$policy(policy) => policy.advise(fault),)*
                }
            }

            /// See [`Policy::populate`].
            pub fn populate(&mut self, slot: &Slot) -> Populate {
                match self {
                    $(Self::$policy(policy) => policy.populate(slot),)*
                }
            }

            /// See [`Policy::nx_huge`].
            #[must_use]
            pub fn nx_huge(&self) -> NxHuge {
                match self {
                    $(Self::$policy(policy) => policy.nx_huge(),)*
                }
            }
        }
    };
}

policies! {
    Demand = Demand;
    FaultAround = FaultAround::default();
    Eager = Eager;
    Huge = Huge::default();
}

#[cfg(test)]
mod tests;
