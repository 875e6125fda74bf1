//! Which refusals a pager may run into, and which break an obligation.

use anyhow::bail;
use ipc_proto::refused::Refused;

/// A refusal that a pager may run into; any other breaks an obligation.
///
/// # Errors
/// Which.
pub fn is_excused(refused: Refused) -> anyhow::Result<()> {
    match refused {
        Refused::Stale
        | Refused::NoTables
        | Refused::BadLevel
        | Refused::LargePageThere
        | Refused::TablesThere
        | Refused::NotAsked => Ok(()),
        Refused::UnknownCall
        | Refused::BadHandle
        | Refused::NoRight
        | Refused::UnknownVariant
        | Refused::Reserved
        | Refused::BadLength
        | Refused::Unreachable
        | Refused::Unanswered => bail!("P38: refused with {refused:?}: {refused}"),
        Refused::BadCount
        | Refused::BadRights
        | Refused::BadMemType
        | Refused::Misaligned
        | Refused::CrossesTable
        | Refused::BeyondGuest
        | Refused::NotRam
        | Refused::NotYours
        | Refused::KernelObject
        | Refused::OtherVm
        | Refused::StillMapped
        | Refused::NotParked
        | Refused::UnknownToken
        | Refused::BadState => bail!("P14: refused with {refused:?}: {refused}"),
    }
}
