//! What is tried in one boot.

use crate::desk::Desk;
use crate::{endings, faults, grants, operations, windows};

/// Tries the cases of the option `script`.
pub fn main(task: &rt::Task) -> ! {
    let mut desk = Desk::open(task);
    match task.entry().option("script") {
        Some("cases") => {
            operations::try_all(&mut desk);
            grants::try_all(&mut desk);
            faults::try_all(&mut desk);
            windows::try_all(&mut desk);
            desk.close();
            desk.end()
        }
        Some("refusals") => endings::refusals(&mut desk),
        Some("foreign") => endings::foreign(&mut desk),
        Some("given") => endings::given(&mut desk),
        Some("window") => endings::window(&mut desk),
        other => panic!("no script {other:?}"),
    }
}
