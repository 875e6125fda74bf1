//! Rows: what is promised, and what was measured.

use super::Group;
use super::stage::Stages;
use super::trace::Events;
use serde_json::{Value, json};

/// What a row promises.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// Its id.
    pub id: &'static str,
    /// What is measured.
    pub what: &'static str,
    /// In what.
    pub unit: &'static str,
    /// What must hold: at most this.
    pub commit: Option<f64>,
    /// What to strive for.
    pub goal: Option<f64>,
    /// What has to run.
    pub group: Group,
    /// The same elsewhere: who, and how much, in the same unit. From the table of peers in the documentation.
    pub peers: &'static [(&'static str, f64)],
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// The figure; none when it cannot be measured.
    pub value: Option<f64>,
    /// How it was obtained, or why it could not be.
    pub how: String,
    /// The costly events behind it.
    pub events: Option<Events>,
    /// Where the ticks went.
    pub stages: Option<Stages>,
    /// Peers that were measured beside it.
    pub peers: Vec<(String, f64)>,
    /// What the row is made of, when that is a series: what each point is, and its ticks.
    pub points: Vec<(String, f64)>,
}

impl Measured {
    /// A figure.
    #[must_use]
    pub fn of(value: f64, how: impl Into<String>) -> Self {
        Self { value: Some(value), how: how.into(), ..Self::default() }
    }

    /// No figure, and why.
    #[must_use]
    pub fn not(why: impl Into<String>) -> Self {
        Self { how: why.into(), ..Self::default() }
    }
}

/// A promise and what was measured of it.
#[derive(Clone, Debug)]
pub struct Row {
    /// The promise.
    pub promise: &'static Promise,
    /// The figure.
    pub measured: Measured,
}

impl Row {
    /// Whether the figure is at most `bound`; none without either.
    #[must_use]
    pub fn holds(&self, bound: Option<f64>) -> Option<bool> {
        Some(self.measured.value? <= bound?)
    }

    /// Every peer, those of the table and those that were measured beside it.
    pub fn peers(&self) -> impl Iterator<Item = (&str, f64)> {
        let constant = self.promise.peers.iter().map(|(name, value)| (*name, *value));
        constant.chain(self.measured.peers.iter().map(|(name, value)| (name.as_str(), *value)))
    }
}

/// The rows as a list.
#[must_use]
pub fn json(rows: &[Row]) -> Value {
    rows.iter()
        .map(|row| {
            let peers: serde_json::Map<_, _> =
                row.peers().map(|(name, value)| (name.to_owned(), json!(rounded(value)))).collect();
            json!({
                "id": row.promise.id,
                "what": row.promise.what,
                "value": row.measured.value.map(rounded),
                "unit": row.promise.unit,
                "commit": row.promise.commit,
                "goal": row.promise.goal,
                "commit_holds": row.holds(row.promise.commit),
                "goal_holds": row.holds(row.promise.goal),
                "events": row.measured.events.as_ref().map(Events::json),
                "stages": row.measured.stages.as_ref().map(Stages::json),
                "peers": peers,
                "points": row.measured.points,
                "how": row.measured.how,
            })
        })
        .collect()
}

/// To three places, of which none is shown when it is zero.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

const fn row(
    id: &'static str,
    group: Group,
    what: &'static str,
    unit: &'static str,
    bounds: (Option<f64>, Option<f64>),
    peers: &'static [(&'static str, f64)],
) -> Promise {
    Promise { id, what, unit, commit: bounds.0, goal: bounds.1, group, peers }
}

const fn ticks(commit: f64, goal: f64) -> (Option<f64>, Option<f64>) {
    (Some(commit), Some(goal))
}

const fn at_most(commit: f64) -> (Option<f64>, Option<f64>) {
    (Some(commit), None)
}

const SEL4_FAULT: (&str, f64) = ("seL4, the same process", 1329.0);
const SEL4_PAGER: (&str, f64) = ("seL4, a separate pager", 1734.0);
const IPC: &[(&str, f64)] = &[("seL4 (no KPTI)", 405.0), ("L4Re (published)", 587.0), ("Hedron", 588.0)];
const EXIT: &[(&str, f64)] = &[("seL4", 610.0), ("Hedron", 946.0)];
const FAULT: &[(&str, f64)] = &[
    SEL4_FAULT,
    SEL4_PAGER,
    ("Hedron", 1916.0),
    ("Linux KVM, in the kernel, page present", 2856.0),
    ("Linux KVM, in the kernel, page fresh", 6168.0),
    ("Linux KVM + userfaultfd", 24463.0),
    ("bare floor: exit, least map, entry", 80.0),
];
const MAP: &[(&str, f64)] = &[("seL4: map one page (system call)", 713.0), ("Hedron: delegate", 1035.0)];

/// Every row, in the order in which they are shown.
pub const ALL: &[Promise] = &[
    row("K1", Group::Guest, "IPC call + reply between two servers", "ticks", ticks(405.0, 300.0), IPC),
    row("K2", Group::Guest, "VM exit, another process, VM entry", "ticks", ticks(490.0, 300.0), EXIT),
    row("K3", Group::Guest, "EPT violation served by the pager", "ticks", ticks(800.0, 450.0), FAULT),
    row("K4", Group::Guest, "of it, decode grant + install", "ticks", ticks(180.0, 90.0), MAP),
    row("K5", Group::Guest, "fault-around 16: per page", "of K3", ticks(0.15, 0.10), &[]),
    row("K6", Group::Guest, "install a run of 512 pages: per page", "ticks", ticks(10.0, 5.0), &[]),
    row("K7", Group::Guest, "dirty-log fault fixed in the kernel", "of K3", ticks(0.35, 0.25), &[]),
    row("K8", Group::Guest, "unmap 512 pages, one INVEPT: per page", "ticks", ticks(12.0, 6.0), &[]),
    row("K9", Group::Guest, "port exit to the vcpu server and back", "ticks", ticks(600.0, 400.0), PORT),
    row("K10", Group::Guest, "a fault that misses a fast check: no table", "of K3", ticks(2.5, 2.0), &[]),
    row("K10z", Group::Guest, "a fault that finds no zeroed frame", "of K3", (None, None), &[]),
    row("K11", Group::Linux, "Linux, boot to power-off, over bare Bochs", "of bare", ticks(1.10, 1.03), &[]),
    row("K11f", Group::Linux, "the same, mapped around each fault", "of bare", ticks(1.10, 1.03), &[]),
    row("K12", Group::Guest, "map 2 MiB, against map 4 KiB", "of 4 KiB", at_most(1.3), &[]),
    row("N1", Group::Growth, "64 MiB to 16 GiB of address space, the dearest", "of the cheapest", FLAT, &[]),
    row("N2", Group::Growth, "4 to 509 slots, the dearest", "of the cheapest", FLAT, &[]),
    row("N3", Group::Growth, "1 to 8 VMs, the dearest", "of the cheapest", FLAT, &[]),
    row("G1", Group::Guest, "a guest times its CPUID", "ticks", at_most(989.0), &[("QEMU/KVM", 989.0)]),
    row("G2", Group::Guest, "a guest times its first touches", "ticks", at_most(6222.0), &[("QEMU/KVM", 6222.0)]),
    row("G3", Group::Guest, "a guest times OUT", "ticks", at_most(4971.0), &[("QEMU/KVM", 4971.0)]),
    row("G4", Group::Guest, "a guest times MMIO reads", "ticks", at_most(7663.0), &[("QEMU/KVM", 7663.0)]),
    row("size-text", Group::Size, "the kernel's code, read-only data with it", "bytes", (None, None), TEXT),
    row("size-data", Group::Size, "the kernel's data, initialized and not", "bytes", (None, None), DATA),
    row("size-lines", Group::Size, "the kernel's lines, without tests", "lines", (None, None), LINES),
    row("L1", Group::Host, "memslot lookup, repeat hit, 32 slots", "of vm-memory", at_most(0.2), &[]),
    row("L2", Group::Host, "random lookup, 32 and 509 slots, the worse", "of vm-memory", at_most(1.0), &[]),
    row("L2-ns", Group::Host, "the same by the clock", "of vm-memory", at_most(0.6), &[]),
    row("L3", Group::Host, "map one page from the root", "of x86_64", at_most(0.6), &[]),
    row("L3-multi", Group::Host, "map one page from the root", "of page_table_multiarch", at_most(0.5), &[]),
    row("L4", Group::Host, "unmap one page", "of x86_64", at_most(0.7), &[]),
    row("L5", Group::Host, "register encode + decode of a Fault", "of zerocopy", at_most(1.2), &[]),
];

/// Flat: no more than a twentieth between the least and the most.
const FLAT: (Option<f64>, Option<f64>) = at_most(1.05);
/// Counted; the documentation says how.
const LINES: &[(&str, f64)] =
    &[("seL4 16.0.0-dev, what its x86 port is made of", 29166.0), ("NOVA 24.08.0, x86_64", 13993.0)];
const TEXT: &[(&str, f64)] =
    &[("seL4 16.0.0-dev, x86_64 with VT-x, gcc 12.2 -O2", 136730.0), ("NOVA 24.08.0, x86_64, gcc 12.2 -Os", 86314.0)];
const DATA: &[(&str, f64)] =
    &[("seL4 16.0.0-dev", 6498415.0), ("NOVA 24.08.0, nearly all of it boot memory", 16690856.0)];
const PORT: &[(&str, f64)] = &[("Linux KVM to user space", 3040.0)];
