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
    [plan::SINGLE, plan::AROUND, plan::RETRIED].into_iter().for_each(|first| _ = act::write_first(first));
    for (what, first, step) in
        [("single", plan::SINGLE, 1), ("around", plan::AROUND, plan::RUN), ("retried", plan::RETRIED, 1)]
    {
        let mut samples = samples::Samples::of(what, &clock);
        pages(first, step).skip(1).for_each(|address| samples.add(act::write_first(address)));
        samples.print();
    }
    let mut mapped = samples::Samples::of("mapped_around", &clock);
    pages(plan::AROUND, 1).for_each(|address| mapped.add(act::write_first(address)));
    mapped.print();
    let _ = act::write_first(plan::BULK);
    guests::line!("bench: done");
    guests::port::end(0)
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
