//! `[vm.NAME]`: the virtual machines of a system and what they run.

use super::section::Section;
use super::{Source, guest_source, module_name};
use ipc_proto::manifest::{BootProtocol, Guest, MAX_VCPUS, Name, Vm};

/// The keys of a VM.
pub const KEYS: &[&str] =
    &["pager", "shadow", "server", "vcpus", "memory", "tables", "protocol", "kernel", "initrd", "modules", "cmdline"];

/// What the kernel of a guest may be, for error messages.
const KERNEL: &str = "the name of a guest file, or the path of a file";

/// How much RAM a VM has and who pages it: what a task's memory may refer to.
#[derive(Clone, Debug)]
pub struct Memory {
    /// The pager and the shadow, as far as there are any: each has frames for all of the VM.
    pub pagers: Vec<String>,
    /// RAM in frames.
    pub frames: u64,
}

/// A VM and the files that its guest is made of.
#[derive(Clone, Debug)]
pub struct VmFiles {
    /// What goes into the manifest. The protocol is settled when the kernel file is there.
    pub vm: Vm,
    /// The protocol that the file asks for; none: the kernel file tells.
    pub protocol: Option<BootProtocol>,
    /// The kernel, then initrd and modules.
    pub files: Vec<(Name, Source)>,
}

/// The memory of every VM under `[vm]`.
///
/// # Errors
/// A mistake in it.
pub fn memories(all: &Section<'_>) -> anyhow::Result<Vec<Memory>> {
    let memory = |name| {
        let section = all.table(name)?;
        let pagers =
            [section.text("pager")?, section.text("shadow")?].into_iter().flatten().map(str::to_owned).collect();
        Ok(Memory { pagers, frames: u64::from(section.frames("memory")?) })
    };
    all.keys().map(memory).collect()
}

/// The VMs under `[vm]`.
///
/// # Errors
/// The first mistake.
pub fn read(all: &Section<'_>) -> anyhow::Result<Vec<VmFiles>> {
    all.keys().map(|name| vm(name, &all.table(name)?)).collect()
}

fn vm(name: &str, section: &Section<'_>) -> anyhow::Result<VmFiles> {
    section.only(KEYS)?;
    let kernel = section.needed("kernel", KERNEL)?;
    let mut modules = section.texts("initrd")?;
    modules.extend(section.texts("modules")?);
    let mut files = Vec::new();
    for file in std::iter::once(&kernel).chain(&modules) {
        files.push((section.bounded("kernel", &module_name(file))?, guest_source(file)));
    }
    let protocol = protocol(section)?;
    let guest = Guest {
        protocol: protocol.unwrap_or(BootProtocol::Flat),
        kernel: files[0].0.clone(),
        modules: section.list("modules", files[1..].iter().map(|(name, _)| name.clone()))?,
        command_line: section.bounded("cmdline", section.text("cmdline")?.unwrap_or_default())?,
    };
    let task = |key| section.text(key)?.map(|name| section.bounded(key, name)).transpose();
    let (pager, shadow) = (task("pager")?, task("shadow")?);
    let vm = Vm {
        name: section.bounded("", name)?,
        pager,
        server: section.bounded("server", section.needed("server", "the name of a task")?)?,
        vcpus: u8::try_from(section.number("vcpus", 1..=MAX_VCPUS as i64, 1)?)?,
        memory: section.frames("memory")?,
        tables: u16::try_from(section.number("tables", 8..=i64::from(u16::MAX), 1024)?)?,
        guest,
        shadow,
    };
    Ok(VmFiles { vm, protocol, files })
}

fn protocol(section: &Section<'_>) -> anyhow::Result<Option<BootProtocol>> {
    match section.text("protocol")? {
        None | Some("auto") => Ok(None),
        Some("linux") => Ok(Some(BootProtocol::Linux)),
        Some("multiboot") => Ok(Some(BootProtocol::Multiboot)),
        Some("flat") => Ok(Some(BootProtocol::Flat)),
        Some(other) => Err(section.wrong("protocol", &format!("\"{other}\""), "auto, linux, multiboot, flat")),
    }
}

/// The protocol of a kernel file, from its first bytes: "HdrS" is Linux (Documentation/arch/x86/boot.rst), a header
/// with a right checksum is Multiboot 1 (Multiboot specification 0.6.96, 3.1.1), anything else is a flat image.
#[must_use]
pub fn detect(kernel: &[u8]) -> BootProtocol {
    if kernel.get(0x202..0x206) == Some(b"HdrS".as_slice()) {
        return BootProtocol::Linux;
    }
    let head = &kernel[..kernel.len().min(8192)];
    let word = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).map_or(0, |word| word.iter().rev().fold(0u32, |all, byte| all << 8 | u32::from(*byte)))
    };
    let header = |bytes: &[u8]| {
        word(bytes, 0) == 0x1bad_b002 && word(bytes, 0).wrapping_add(word(bytes, 4)).wrapping_add(word(bytes, 8)) == 0
    };
    let multiboot = (0..head.len().saturating_sub(11)).step_by(4).any(|at| header(&head[at..]));
    if multiboot { BootProtocol::Multiboot } else { BootProtocol::Flat }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_file_tells_its_protocol() {
        let mut linux = vec![0; 0x400];
        linux[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(detect(&linux), BootProtocol::Linux);
        let mut multiboot = vec![0; 0x400];
        for (at, word) in [(0x100, 0x1bad_b002u32), (0x104, 3), (0x108, 0u32.wrapping_sub(0x1bad_b002 + 3))] {
            multiboot[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        assert_eq!(detect(&multiboot), BootProtocol::Multiboot);
        multiboot[0x108] ^= 1;
        assert_eq!(detect(&multiboot), BootProtocol::Flat);
        assert_eq!(detect(&[]), BootProtocol::Flat);
    }
}
