//! The figures of a VM, whoever counted them.

use super::control::say;
use super::line::Line;
use super::pager::Pager;
use super::wrong::{Verdict, Wrong};
use core::fmt::Display;
use ipc_proto::memop::MemOp;
use ipc_proto::slot::Topic;
use vcpu::machine::Machine;

/// Says those that have `part` in their name: the pager's, this server's, the kernel's.
pub fn say_those(part: &str, (vm, pager): (u16, &Pager), machine: &Machine, line: &mut Line) -> Verdict {
    let mut said = 0;
    let mut figure = |name: &str, value: &dyn Display| {
        if name.contains(part) {
            say(line, format_args!(" {name} {value}"));
            said += 1;
        }
    };
    pager.tell(Topic::Stats, |text| {
        let (name, value) = text.split_once(' ').unwrap_or((text, ""));
        figure(name, &value);
    })?;
    let figures = machine.figures();
    figure("exits.served", &figures.exits);
    figure("interrupts.delivered", &figures.interrupts);
    if let Ok([_, tables_left, mapped, _, invepts, _]) = rt::mem_op(usize::from(vm), MemOp::Info, [0; 4]) {
        figure("tables_left", &tables_left);
        figure("frames_mapped", &mapped);
        figure("invepts", &invepts);
    }
    if said == 0 { Err(Wrong::NoFigure) } else { Ok(()) }
}
