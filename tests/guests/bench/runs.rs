//! `bench-runs`: touches the ranges in which the pager of `tests/stopwatch` answers in ways of its own.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[expect(dead_code, reason = "`bench` uses more of it")]
mod act;
#[cfg(target_os = "none")]
#[expect(dead_code, reason = "the pager uses more of it")]
#[path = "../../stopwatch/src/plan.rs"]
mod plan;
#[cfg(target_os = "none")]
mod samples;

#[cfg(target_os = "none")]
guests::flat_guest!(main);

#[cfg(target_os = "none")]
fn main(_ram: u64) -> ! {
    use guests::memory::PAGE;
    guests::interrupt::install();
    let clock = samples::Clock::calibrate();
    let pages = |first: u64, step: u64| (first..first + plan::LENGTH).step_by((step * PAGE) as usize);
    // The tables first: what is timed finds them there.
    let tables = [plan::SINGLE, plan::AROUND, plan::RETRIED, plan::PROTECTED];
    tables.into_iter().for_each(|first| _ = act::write_first(first));
    for (what, first, step) in
        [("single", plan::SINGLE, 1), ("around", plan::AROUND, plan::RUN), ("retried", plan::RETRIED, 1)]
    {
        let mut samples = samples::Samples::of(what, &clock);
        // The last one is the debugger's.
        pages(first, step)
            .skip(1)
            .take((512 / step - 2) as usize)
            .for_each(|address| samples.add(act::write_first(address)));
        samples.print();
    }
    let last = |first: u64| first + plan::LENGTH - PAGE;
    act::write_traced("single", last(plan::SINGLE));
    act::write_traced("around", last(plan::AROUND) - (plan::RUN - 1) * PAGE);
    act::write_traced("retried", last(plan::RETRIED));
    let mut mapped = samples::Samples::of("mapped_around", &clock);
    pages(plan::AROUND, 1).for_each(|address| mapped.add(act::write_first(address)));
    mapped.print();
    let _ = act::write_first(plan::BULK);
    protected(&clock);
    let mut large = samples::Samples::of("large", &clock);
    let behind = plan::END - plan::LENGTH;
    (plan::LARGE..behind).step_by(plan::LENGTH as usize).for_each(|address| large.add(act::write_first(address)));
    large.print();
    act::write_traced("large", behind);
    let inside = last(plan::LARGE);
    assert!(act::write_first(inside) < 100, "the whole large page is mapped");
    guests::line!("bench: done");
    guests::port::end(0)
}

/// Writes to pages whose right to write was taken away as for a dirty log, once they are mapped.
#[cfg(target_os = "none")]
fn protected(clock: &samples::Clock) {
    use guests::memory::PAGE;
    let pages = || (plan::PROTECTED..plan::PROTECTED + plan::LENGTH).step_by(PAGE as usize);
    pages().for_each(|address| guests::memory::write(address, address));
    let _ = act::write_first(plan::TRIGGER);
    assert!(pages().all(|address| guests::memory::read::<u64>(address) == address), "what is protected can be read");
    let mut fixed = samples::Samples::of("write_protected", clock);
    pages().take(511).for_each(|address| fixed.add(act::write_first(address)));
    fixed.print();
    act::write_traced("write_protected", plan::PROTECTED + plan::LENGTH - PAGE);
    let mut again = samples::Samples::of("writable_again", clock);
    pages().for_each(|address| again.add(act::write_first(address)));
    again.print();
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
