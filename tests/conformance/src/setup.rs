//! The system in which a pager is tried: what it owns, what the CPU can do, what the manifest says.

use ipc_proto::grant::Level;
use ipc_proto::host::MANIFEST;
use ipc_proto::manifest::{BootProtocol, Guest, LogLevel, Manifest, Name, Setting, Task, Vm};
use ipc_proto::memop::Abilities;
use ipc_proto::version::PROTOCOL;
use ipc_proto::wire;
use std::time::Duration;

/// The VMs of the pager.
pub const VMS: u8 = 2;
/// vCPUs of each.
pub const VCPUS: u16 = 4;

/// A system.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Frames of the pager, table frames to begin with included.
    pub frames: u64,
    /// Table frames that each VM begins with.
    pub tables: u16,
    /// Guest-physical address bits.
    pub bits: u8,
    /// The largest page that the CPU maps.
    pub largest: Level,
    /// What else it can do.
    pub abilities: Abilities,
    /// Options of the pager's task.
    pub options: Vec<(String, String)>,
    /// When an answer is due.
    pub deadline: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            frames: 3072,
            tables: 64,
            bits: 40,
            largest: Level::Large,
            abilities: Abilities::ACCESSED_DIRTY,
            options: Vec::new(),
            deadline: Duration::from_secs(5),
        }
    }
}

/// The manifest's bytes.
///
/// # Errors
/// An option that is too long.
pub fn manifest(setup: &Setup) -> anyhow::Result<heapless::Vec<u8, MANIFEST>> {
    let mut pager = task("pager", setup.frames as u32)?;
    for (key, value) in &setup.options {
        let setting = Setting {
            key: name(key)?,
            value: heapless::String::try_from(value.as_str()).map_err(|_| anyhow::anyhow!("{value}: too long"))?,
        };
        pager.options.push(setting).map_err(|_| anyhow::anyhow!("too many options"))?;
    }
    let tasks = [task("kit", 64)?, pager, task("server", 64)?];
    let mut vms = heapless::Vec::new();
    for number in 0..VMS {
        vms.push(vm(number, setup)?).map_err(|_| anyhow::anyhow!("too many VMs"))?;
    }
    let manifest = Manifest {
        version: PROTOCOL,
        name: name("conformance")?,
        log: LogLevel::Info,
        check: true,
        tasks: tasks.into_iter().collect(),
        vms,
    };
    let mut bytes = heapless::Vec::new();
    bytes.resize_default(MANIFEST).map_err(|_| anyhow::anyhow!("no room for the manifest"))?;
    let len = wire::encode(&manifest, &mut bytes).map_err(|error| anyhow::anyhow!("the manifest: {error:?}"))?;
    bytes.truncate(len);
    Ok(bytes)
}

fn name(text: &str) -> anyhow::Result<Name> {
    Name::try_from(text).map_err(|_| anyhow::anyhow!("{text}: longer than a name can be"))
}

fn task(text: &str, frames: u32) -> anyhow::Result<Task> {
    Ok(Task {
        name: name(text)?,
        image: name(text)?,
        priority: 2,
        frames,
        supervisor: text == "server",
        ports: heapless::Vec::new(),
        modules: heapless::Vec::new(),
        options: heapless::Vec::new(),
        spares: heapless::Vec::new(),
        deadline_ms: 0,
        restart: 0,
    })
}

fn vm(number: u8, setup: &Setup) -> anyhow::Result<Vm> {
    let guest = Guest {
        protocol: BootProtocol::Flat,
        kernel: name("kit")?,
        modules: heapless::Vec::new(),
        command_line: heapless::String::new(),
    };
    Ok(Vm {
        name: name(&format!("guest{number}"))?,
        pager: Some(name("pager")?),
        server: name("server")?,
        vcpus: VCPUS as u8,
        memory: setup.frames as u32 / 2,
        tables: setup.tables,
        guest,
        shadow: None,
    })
}
