//! The VM's shadow: a second pager, which is told what the pager is told, so that it can answer the same faults. The kernel
//! compares its answers.

use super::pager::Pager;
use super::wrong::Wrong;
use core::fmt::Arguments;
use ipc_proto::memop::MemOp;
use ipc_proto::shadow::{Counts, Difference, Kind};
use ipc_proto::words::Words;

/// Tells how the answers compare, and the last differences of these kinds, the last one first.
pub fn tell(vm: u16, kinds: &[Kind], mut say: impl FnMut(Arguments<'_>)) -> Result<(), Wrong> {
    let Counts { same, extent, decision, missed } = counts(vm).ok_or(Wrong::NoShadow)?;
    say(format_args!("same {same}"));
    say(format_args!("extent {extent}: the page is granted alike, within another run"));
    say(format_args!("decision {decision}: another answer, other rights, another memory type"));
    let state = if Pager::shadow_has_stopped(vm) { ": the shadow has stopped" } else { "" };
    say(format_args!("missed {missed}{state}"));
    each(vm, kinds, |kind, difference| say(format_args!("{kind:?}: {difference}")));
    Ok(())
}

/// The system is about to end: a shadow's last differences in more than extent go into the log, its counts are in the
/// kernel's figures.
pub fn report(vm: u16) {
    if counts(vm).is_some_and(|counts| counts.missed != 0) && Pager::shadow_has_stopped(vm) {
        log::warn!("the shadow has stopped");
    }
    each(vm, &[Kind::Decision], |_, difference| log::info!("shadow: {difference}"));
}

/// The last differences of these kinds.
fn each(vm: u16, kinds: &[Kind], mut tell: impl FnMut(Kind, Difference)) {
    let Some(counts) = counts(vm) else { return };
    for kind in kinds {
        for words in counts.rows(*kind).filter_map(|row| words(vm, row)) {
            tell(*kind, Difference::from_words(&words));
        }
    }
}

fn counts(vm: u16) -> Option<Counts> {
    words(vm, 0).map(|words| Counts::from_words(&words))
}

fn words(vm: u16, row: usize) -> Option<Words> {
    rt::mem_op(usize::from(vm), MemOp::Shadow, [row as u64, 0, 0, 0]).ok()
}
