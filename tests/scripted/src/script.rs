//! What is tried in one boot.

use crate::desk::Desk;
use crate::{endings, faults, grants, lives, logs, operations, shadowed, windows};
use ipc_proto::fault::FaultReply;
use ipc_proto::refused::DenyReason;

/// Tries the cases of the option `script`.
pub fn main(task: &rt::Task) -> ! {
    if task.info.incarnation != 0 {
        lives::again(task);
    }
    let mut desk = Desk::open(task);
    match task.entry().option("script") {
        Some("cases") => {
            if task.entry().option("way") == Some("long") {
                desk.go_the_long_way();
            }
            faults::try_all(&mut desk);
            grants::try_all(&mut desk);
            windows::try_all(&mut desk);
            logs::try_all(&mut desk);
            // Last: a page that was hidden once makes the kernel look at every fault more closely.
            operations::try_all(&mut desk);
            desk.close();
            desk.end()
        }
        Some("refusals") => endings::refusals(&mut desk),
        Some("foreign") => endings::foreign(&mut desk),
        Some("given") => endings::given(&mut desk),
        Some("called") => endings::called(&mut desk),
        Some("window") => endings::window(&mut desk, &FaultReply::Deny(DenyReason::Policy)),
        Some("window_mmio") => endings::window(&mut desk, &FaultReply::Mmio(0)),
        Some("window_fetch") => endings::window_fetch(&mut desk),
        Some("lives") => lives::first(&mut desk),
        Some("shadowed") => shadowed::main(&mut desk),
        Some("supervisors") => endings::supervisors(&mut desk),
        Some("deadline") => lives::busy(&mut desk),
        other => panic!("no script {other:?}"),
    }
}
