//! Every refusal, by number and in words.

use core::fmt;
use serde::{Deserialize, Serialize};

/// A word that spells no variant of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

macro_rules! refusals {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $number:literal, $text:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum $name {
            $(#[doc = $text] $variant = $number,)*
        }

        impl $name {
            /// Every variant, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The variant of that number.
            #[must_use]
            pub const fn from_number(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// What it means, for people.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.text())
            }
        }
    };
}

refusals! {
    /// Why the kernel did not do what a server asked. Nothing was changed.
    Refused {
        UnknownCall = 1, "no system call of that number";
        BadHandle = 2, "no object under that handle, or of another kind";
        NoRight = 3, "the handle does not carry that right";
        UnknownVariant = 4, "a variant, flag or operation that this version does not have";
        Reserved = 5, "bits that must be zero are set";
        BadLength = 6, "a length beyond the message page";
        NotAsked = 7, "a reply although nothing was asked";
        Unreachable = 8, "the portal's server has stopped, or would wait for itself";
        BadCount = 10, "a run of no pages, or of more than 512";
        BadLevel = 11, "a page size other than 4 KiB, 2 MiB, 1 GiB, or one that the CPU does not have";
        BadRights = 12, "rights that EPT cannot express: write without read, or execute-only on a CPU without it";
        BadMemType = 13, "a memory type that EPT does not have";
        Misaligned = 14, "gfn or pfn is not a multiple of the page size";
        CrossesTable = 15, "the run goes beyond the table that holds its first entry";
        BeyondGuest = 16, "the run goes beyond the guest-physical address width";
        NotRam = 17, "a frame that is not RAM";
        NotYours = 18, "a frame that another task owns";
        KernelObject = 19, "a frame that holds a kernel object, a table or a boot module";
        OtherVm = 20, "a frame that is mapped in another VM";
        Stale = 21, "worked out before an invalidation: ask again under the present mmu_seq";
        NoTables = 22, "the VM's pool has too few table frames";
        LargePageThere = 23, "a larger page is mapped there: unmap it first";
        TablesThere = 24, "smaller pages are mapped there: unmap them first";
        StillMapped = 25, "the frame is still mapped in a guest";
        NotParked = 26, "the vCPU is not parked";
        UnknownToken = 27, "no fault is pending under that token";
        Unanswered = 29, "the message received last must be answered first";
        BadState = 28, "guest state that no entry can be made with";
    }
}

refusals! {
    /// Why a pager forbids an access.
    DenyReason {
        NoSlot = 1, "no memory slot holds the address";
        OutOfMemory = 2, "the pager has no frame left";
        Policy = 3, "the policy forbids it";
        Internal = 4, "the pager cannot answer";
    }
}
