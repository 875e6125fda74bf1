//! Receive, look, act.

use heapless::Vec;
use ipc_proto::call::{Cause, Deed, End, notice};
use ipc_proto::lifecycle::{Order, Supervised};
use ipc_proto::manifest::MAX_TASKS;
use ipc_proto::manifest::in_place::Manifest;
use ipc_proto::refused::Refused;
use ipc_proto::wire;
use rt::{Received, Task};
use supervisor::drill::Drill;
use supervisor::rule::{History, Verdict};

/// The longest order or answer, in bytes.
const LONGEST: usize = 64;
/// How long an image may be on trial, in seconds.
const TRIAL_S: u64 = 10;

/// What is known of a task.
#[derive(Clone, Copy, Debug)]
struct Ward {
    history: History,
    /// Whether it has been seen to run since it was last seen to have stopped.
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Runs,
    /// It was started with another image, and has not taken over: that it stops is the affair of who ordered it. The time at
    /// which it is stopped if it still has not.
    OnTrial(u64),
    /// It is started at that time.
    Waits(u64),
    Stopped,
}

struct Server {
    manifest: Manifest<'static>,
    wards: Vec<Ward, MAX_TASKS>,
    drill: Option<Drill>,
    /// Prove the ledger after each restart.
    check: bool,
    tsc_hz: u64,
}

/// Where the server begins.
pub fn main(task: Task) -> ! {
    let entry = task.entry();
    let manifest = task.manifest();
    let drill = Drill::of(entry, task.info.tsc_hz, rt::tsc(), |name| Some(manifest.task(name)?.0));
    let check = entry.option("check") == Some("true");
    let ward = Ward { history: History::CLEAN, fate: Fate::Runs };
    let wards = manifest.tasks.iter().map(|_| ward).collect();
    let mut server = Server { wards, drill, check, tsc_hz: task.info.tsc_hz, manifest };
    server.serve()
}

/// What a task that has stopped has to do with VMs.
fn serves(manifest: &Manifest<'_>, task: usize) -> bool {
    manifest.vms.iter().any(|vm| vm.server == manifest.tasks[task].name)
}

impl Server {
    fn serve(&mut self) -> ! {
        self.arm();
        let mut next = rt::receive();
        loop {
            next = match next {
                Received::Notice(bits, _) => {
                    if bits & notice::TASK_STOPPED != 0 {
                        self.look_around();
                    }
                    self.time_came();
                    rt::receive()
                }
                Received::Call { vm, len } => {
                    let reply = self.order(vm, len);
                    let mut bytes = [0; LONGEST];
                    let len = wire::encode(&reply, &mut bytes).unwrap_or(0);
                    rt::write_message(&bytes[..len]);
                    rt::reply_call(len)
                }
                Received::Unknown(answer) if answer.status == Refused::NotAsked as u64 => rt::receive(),
                Received::Fault(_) | Received::RefusedReply(..) | Received::Exit(_) | Received::Unknown(_) => {
                    panic!("a supervisor was asked {next:?}")
                }
            };
        }
    }

    /// Some task has stopped: whichever it is, what is to be done is done.
    fn look_around(&mut self) {
        for task in 0..self.wards.len() {
            let Ok([stopped, cause, detail, ..]) = rt::supervise(task, Deed::Look, 0) else { continue };
            let fate = self.wards[task].fate;
            if stopped == 0 || matches!(fate, Fate::Waits(_) | Fate::Stopped) {
                continue;
            }
            let cause = Cause::from_number(cause).unwrap_or(Cause::Trap);
            self.wards[task].fate = Fate::Stopped;
            if matches!(fate, Fate::OnTrial(_)) {
                let name = &self.manifest.tasks[task].name;
                // Who cannot go on says so by that, and the guest stands still for as long as a line takes to be printed.
                let level = if cause == Cause::Done { log::Level::Debug } else { log::Level::Warn };
                log::log!(level, "{name} has stopped on trial: {} ({detail:#x})", cause.text());
            } else if serves(&self.manifest, task) {
                self.vm_is_over(task, cause);
            } else {
                self.judge(task, cause, detail);
            }
        }
        self.end_with_the_last_vm();
    }

    /// A task that serves no VM has stopped.
    fn judge(&mut self, task: usize, cause: Cause, detail: u64) {
        let entry = &self.manifest.tasks[task];
        let now = rt::tsc();
        match self.wards[task].history.stopped(cause, entry.restart, now, self.tsc_hz) {
            Verdict::At(time) if time <= now => {
                self.start(task, None);
            }
            Verdict::At(time) => {
                log::warn!("{} has stopped: {} ({detail:#x}); it is started again later", entry.name, cause.text());
                self.wards[task].fate = Fate::Waits(time);
                self.arm();
            }
            Verdict::GiveUp => {
                log::error!("{} has stopped: {} ({detail:#x}); it stays so", entry.name, cause.text());
                self.give_up(task);
            }
        }
    }

    /// Starts a task, with the image that it had last, or with another one of its.
    fn start(&mut self, task: usize, image: Option<usize>) -> bool {
        let name = &self.manifest.tasks[task].name;
        let last = rt::supervise(task, Deed::Look, 0).map_or(0, |words| words[4] as usize);
        match rt::supervise(task, Deed::Start, image.unwrap_or(last)) {
            Ok(_) => {
                self.wards[task].fate = Fate::Runs;
                log::debug!("{name} is started again");
                if self.check && !matches!(rt::supervise(task, Deed::Prove, 0), Ok([1, ..])) {
                    log::error!("after {name} was started again, EPT and frame table do not agree");
                }
                true
            }
            Err(refused) => {
                log::error!("{name} cannot be started again: {refused}");
                self.give_up(task);
                false
            }
        }
    }

    /// A task stays stopped: VMs cannot go on that it pages.
    fn give_up(&mut self, task: usize) {
        let name = self.manifest.tasks[task].name;
        for vm in self.manifest.vms.iter().filter(|vm| vm.pager.as_ref() == Some(&name)) {
            let Some((server, _)) = self.manifest.task(vm.server) else { continue };
            if self.wards[server].fate == Fate::Runs && rt::supervise(server, Deed::Stop, 0).is_ok() {
                log::error!("VM {} is over: its pager is gone", vm.name);
                self.wards[server].fate = Fate::Stopped;
            }
        }
    }

    fn vm_is_over(&self, task: usize, cause: Cause) {
        let name = &self.manifest.tasks[task].name;
        match cause {
            Cause::Done => log::info!("{name} is done, and its VM is over"),
            Cause::Nothing | Cause::Trap | Cause::Refused | Cause::Deadline | Cause::Killed | Cause::Window => {
                log::error!("{name} has stopped: {}; its VM is over, the others go on", cause.text());
            }
        }
    }

    /// When no VM is left the system ends, as badly as the worst of them.
    fn end_with_the_last_vm(&self) {
        let mut worst = End::Done;
        for task in (0..self.wards.len()).filter(|task| serves(&self.manifest, *task)) {
            if self.wards[task].fate != Fate::Stopped {
                return;
            }
            let ended = match rt::supervise(task, Deed::Look, 0) {
                Ok([_, cause, end, ..]) if cause == Cause::Done as u64 => End::from_number(end),
                Ok(_) | Err(_) => End::ServerFailed,
            };
            worst = if ended as u64 > worst as u64 { ended } else { worst };
        }
        if let Err(refused) = rt::power_off(worst) {
            panic!("the system cannot be ended: {refused}");
        }
    }

    /// What is due is done.
    fn time_came(&mut self) {
        let now = rt::tsc();
        for task in 0..self.wards.len() {
            match self.wards[task].fate {
                Fate::Waits(time) if time <= now => _ = self.start(task, None),
                // It hangs, and so does who ordered it.
                Fate::OnTrial(end) if end <= now => _ = rt::supervise(task, Deed::Stop, 0),
                Fate::Waits(_) | Fate::OnTrial(_) | Fate::Runs | Fate::Stopped => {}
            }
        }
        if let Some(drill) = self.drill.as_mut().filter(|drill| drill.left > 0 && drill.due <= now) {
            drill.left -= 1;
            let (victim, left) = (drill.victim, drill.left);
            if let Err(refused) = rt::supervise(victim, Deed::Stop, 0) {
                log::error!("the victim cannot be killed: {refused}");
            }
            self.look_around();
            if left == 0 {
                log::info!("drill: the last kill is done");
            }
            if let Some(drill) = &mut self.drill {
                drill.draw(rt::tsc());
            }
        }
        self.arm();
    }

    /// Asks for the next time at which something is due.
    fn arm(&self) {
        let waits = self.wards.iter().filter_map(|ward| match ward.fate {
            Fate::Waits(time) | Fate::OnTrial(time) => Some(time),
            Fate::Runs | Fate::Stopped => None,
        });
        let kill = self.drill.as_ref().filter(|drill| drill.left > 0).map(|drill| drill.due);
        if let Some(first) = waits.chain(kill).min() {
            rt::timer(first);
        }
    }

    /// The trial is over. Who has stopped since it has taken over is started again, like anybody who dies.
    fn stay(&mut self, task: usize) -> Supervised {
        let stays = match self.wards[task].fate {
            Fate::Stopped => self.start(task, None),
            Fate::OnTrial(_) => {
                self.wards[task].fate = Fate::Runs;
                true
            }
            Fate::Runs | Fate::Waits(_) => true,
        };
        if stays { Supervised::Done } else { Supervised::NotStarted }
    }

    /// What the server of a VM asks for concerns the VM's pager.
    fn order(&mut self, vm: usize, len: usize) -> Supervised {
        let mut bytes = [0; LONGEST];
        let Some(bytes) = bytes.get_mut(..len) else { return Supervised::Malformed };
        rt::read_message(bytes);
        let pager = self.manifest.vms.get(vm).and_then(|vm| self.manifest.task(vm.pager.as_ref()?));
        let (Ok(order), Some((task, entry))) = (wire::decode(bytes), pager) else { return Supervised::Malformed };
        let image = match &order {
            Order::Kill | Order::Restart => None,
            Order::Stay => return self.stay(task),
            Order::Swap(name) => {
                let mut images = [&entry.image].into_iter().chain(&entry.spares);
                let Some(image) = images.position(|image| image == name) else { return Supervised::UnknownImage };
                Some(image)
            }
        };
        if rt::supervise(task, Deed::Stop, 0).is_err() {
            return Supervised::NotStarted;
        }
        if order == Order::Kill {
            self.look_around();
            return Supervised::Done;
        }
        if !self.start(task, image) {
            return Supervised::NotStarted;
        }
        if image.is_some() {
            self.wards[task].fate = Fate::OnTrial(rt::tsc() + TRIAL_S * self.tsc_hz);
            self.arm();
        }
        Supervised::Done
    }
}
