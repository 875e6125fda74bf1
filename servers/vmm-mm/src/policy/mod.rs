//! The choices that are a matter of taste, behind one trait: the pipeline asks, a policy answers from facts.
//!
//! A policy sees what happened, never tables or frames, so it cannot map what is not there or take what is in use.

mod view;

pub use view::{Begins, Bits, Duties, Looks, Overcommit, Purpose, Verdict, View, ZeroPages};

use crate::fault::PageFault;
use ipc_proto::grant::Level;
use ipc_proto::slot::Slot;

/// What a policy is asked.
pub trait Policy {
    /// Its name in the manifest.
    const NAME: &'static str;

    /// Whether every fault gets its page alone, [`Advice::THE_PAGE`]: [`Self::advise`] is not even called.
    const ONE_PAGE: bool = false;

    /// Its options, and what each may be, for people: who names a wrong one is told.
    const OPTIONS: &'static [(&'static str, &'static str)] = &[];

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

    /// The pages for which a new slot gets its frames at once: only for those of a gigabyte does it make a difference, as
    /// no fault could wait until one is zeroed.
    fn reserve(&self) -> Level {
        Level::Page
    }

    /// What the policy does beside answering faults.
    fn duties(&self) -> Duties {
        Duties::NONE
    }

    /// Some pages of a VM, block after block and round after round: when frames are needed, or at the times that
    /// [`Duties::period`] asks for. What shall be done with them is cut to what can be done.
    fn survey(&mut self, view: &View) -> Verdict {
        let _ = view;
        Verdict::KEEP
    }

    /// Figure `number`, counted from 0, of what the policy found of VM `vm`; `None` when there are fewer.
    fn figure(&self, vm: usize, number: usize) -> Option<(&'static str, u64)> {
        let _ = (vm, number);
        None
    }
}

/// What to map for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// How many small pages, the fault's own included: 1 to 512. Without a stride they lie at a multiple of that.
    pub around: u16,
    /// The largest page.
    pub level: Level,
    /// Not 0: the pages are the fault's own and those behind it, so many pages apart, or before it if less than 0.
    pub stride: i16,
    /// What a page gets that is read before it was ever written.
    pub zero: ZeroPages,
}

impl Advice {
    /// The page that faulted.
    pub const THE_PAGE: Self = Self { around: 1, level: Level::Page, stride: 0, zero: ZeroPages::Own };

    /// A window of `around` pages.
    #[must_use]
    pub const fn window(around: u16) -> Self {
        Self { around, ..Self::THE_PAGE }
    }
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
    ($($file:ident::$policy:ident = $new:expr;)*) => {
        $(mod $file;
        pub use $file::$policy;)*

        /// The policy that the manifest picked.
        #[expect(clippy::large_enum_variant, reason = "there is one, and no heap to put it on")]
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

            /// See [`Policy::ONE_PAGE`].
            #[inline]
            #[must_use]
            pub const fn maps_one_page(&self) -> bool {
                match self {
                    $(Self::$policy(_) => $policy::ONE_PAGE,)*
                }
            }

            /// See [`Policy::OPTIONS`].
            #[must_use]
            pub const fn options(&self) -> &'static [(&'static str, &'static str)] {
                match self {
                    $(Self::$policy(_) => $policy::OPTIONS,)*
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

            /// See [`Policy::reserve`].
            #[must_use]
            pub fn reserve(&self) -> Level {
                match self {
                    $(Self::$policy(policy) => policy.reserve(),)*
                }
            }

            /// See [`Policy::duties`].
            #[must_use]
            pub fn duties(&self) -> Duties {
                match self {
                    $(Self::$policy(policy) => policy.duties(),)*
                }
            }

            /// See [`Policy::survey`].
            pub fn survey(&mut self, view: &View) -> Verdict {
                match self {
                    $(Self::$policy(policy) => policy.survey(view),)*
                }
            }

            /// See [`Policy::figure`].
            #[must_use]
            pub fn figure(&self, vm: usize, number: usize) -> Option<(&'static str, u64)> {
                match self {
                    $(Self::$policy(policy) => policy.figure(vm, number),)*
                }
            }
        }
    };
}

// Every policy: its file, its type, and how it is made. Nothing else names it.
policies! {
    demand::Demand = Demand;
    fault_around::FaultAround = FaultAround::default();
    eager::Eager = Eager;
    huge::Huge = Huge::default();
    stride::Stride = Stride::default();
    clock::Clock = Clock::default();
    share::Share = Share::default();
    wss::Wss = Wss::default();
}

/// What a policy remembers lies in it: there is no heap, and a policy that is chosen at run time is on the stack for a while.
const REMEMBERED: usize = 8 << 10;
const _: () =
    assert!(size_of::<Chosen>() <= REMEMBERED, "a policy is larger than 8 KiB: the pager's stack must hold it");

/// The number in `value`, if it is one of `allowed`.
fn number<T: core::str::FromStr + PartialOrd>(
    value: &str,
    allowed: core::ops::RangeInclusive<T>,
) -> Result<T, Refusal> {
    value.parse().ok().filter(|number| allowed.contains(number)).ok_or(Refusal::BadValue)
}

#[cfg(test)]
mod tests;
