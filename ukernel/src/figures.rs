//! The summary: what the kernel counted, printed when the system ends.

use crate::core::Core;
use crate::vcpu::{CLASSES, REASONS, TICKS_A_CLASS, Vcpu};
use crate::{arch::cpu, ledger, log};
use core::sync::atomic::Ordering::Relaxed;

/// Prints every figure. Says whether the ledger was proved, or need not be.
pub fn print(core: &Core) -> bool {
    let system = core.system;
    log::figure(format_args!("ticks"), cpu::tsc() - system.began);
    for reason in 0..REASONS {
        let count: u64 = core.vcpus.iter().map(|vcpu| vcpu.counts.exits[reason]).sum();
        if count != 0 {
            log::figure(format_args!("exits.{reason}"), count);
        }
    }
    print_faults(core);
    log::figure(format_args!("ipc.round_trips"), core.round_trips);
    for (task, thread) in system.tasks.iter().zip(&core.threads) {
        log::figure(format_args!("task.{}.messages", task.name), thread.messages);
        if thread.life.incarnation != 0 {
            log::figure(format_args!("task.{}.restarts", task.name), u64::from(thread.life.incarnation));
        }
    }
    for vm in &system.vms {
        log::figure(format_args!("vm.{}.frames_mapped", vm.id), vm.mapped.load(Relaxed));
        log::figure(format_args!("vm.{}.invepts", vm.id), vm.invepts.load(Relaxed));
        log::figure(format_args!("vm.{}.table_frames_left", vm.id), u64::from(vm.pool.lock().count()));
        let names = ["same", "extent", "decision", "missed"].iter().filter(|_| vm.shadow.is_some());
        for (name, count) in names.zip(vm.shown.lock().tally[0]) {
            log::figure(format_args!("vm.{}.shadow.{name}", vm.id), count);
        }
    }
    !system.check || prove(core)
}

fn print_faults(core: &Core) {
    let sum = |count: fn(&Vcpu) -> u64| core.vcpus.iter().map(count).sum::<u64>();
    let answered: u64 = (0..CLASSES).map(|class| in_class(core, class)).sum();
    let window = &core.window_counts;
    log::figure(format_args!("faults.count"), answered);
    log::figure(format_args!("faults.window"), window.faults);
    log::figure(format_args!("faults.mended_by_kernel"), sum(|vcpu| vcpu.counts.mended));
    log::figure(format_args!("faults.grants"), sum(|vcpu| vcpu.counts.grants) + window.grants + core.unasked.grants);
    log::figure(
        format_args!("faults.pages_granted"),
        sum(|vcpu| vcpu.counts.pages) + window.pages + core.unasked.pages,
    );
    log::figure(format_args!("faults.ticks_p50"), percentile(core, answered, 50));
    log::figure(format_args!("faults.ticks_p99"), percentile(core, answered, 99));
    log::figure(
        format_args!("faults.ticks_max"),
        core.vcpus
            .iter()
            .map(|vcpu| vcpu.counts.most)
            .max()
            .filter(|most| *most != 0)
            .unwrap_or_else(|| percentile(core, answered, 100)),
    );
}

fn in_class(core: &Core, class: usize) -> u64 {
    core.vcpus.iter().filter_map(|vcpu| vcpu.counts.ticks.get(class)).map(|count| count.load(Relaxed)).sum()
}

/// The upper end of the class of ticks below which `percent` of all faults are.
fn percentile(core: &Core, total: u64, percent: u64) -> u64 {
    let wanted = (total * percent).div_ceil(100);
    let mut seen = 0;
    for class in 0..CLASSES {
        seen += in_class(core, class);
        if seen >= wanted && seen != 0 {
            return (class as u64 + 1) * TICKS_A_CLASS - 1;
        }
    }
    0
}

/// Whether EPT and frame table agree: how many frames are mapped.
pub fn proof(core: &Core) -> Option<u64> {
    let vms = core.system.vms.iter().map(|vm| (vm.id, vm.pager, core.system.ept(vm)));
    let proof = ledger::prove(&core.system.frames, vms);
    proof.inspect_err(|contradiction| ::log::error!("ledger: {contradiction:x?}")).ok()
}

fn prove(core: &Core) -> bool {
    let proof = proof(core);
    log::figure(format_args!("ledger_matches_ept"), u64::from(proof.is_some()));
    if let Some(frames) = proof {
        ::log::info!("ledger: {frames} mapped frames, EPT and frame table agree");
    }
    proof.is_some()
}
