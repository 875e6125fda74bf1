//! Objects at boot: tasks, threads, VMs, vCPUs, from what the manifest says.

use super::ram::Module;
use super::{Boot, Why, why};
use crate::arch::boot_memory::BootFrames;
use crate::arch::cpu;
use crate::arch::paging::Space;
use crate::arch::vmx::root::{EptCapabilities, guest_physical_bits};
use crate::arch::vmx::{ept_entry, guest};
use crate::arch::{GuestCpu, vmx};
use crate::core::Core;
use crate::frame::FirstMapping;
use crate::load::{Builder, Image};
use crate::memop;
use crate::restart;
use crate::system::System;
use crate::task::{Handle, Task};
use crate::vcpu::{CLASSES, Vcpu};
use crate::vm::Vm;
use core::sync::atomic::{AtomicBool, AtomicU64};
use heapless::Vec;
use ipc_proto::grant::{Pfn, Rights};
use ipc_proto::layout::{self, BootInfo, ModuleInfo, handle};
use ipc_proto::manifest::{self, MAX_SPARES, MAX_TASKS, MAX_VCPUS, MAX_VMS, MODULE, Manifest, Name, PRIORITIES};
use ipc_proto::version::PROTOCOL;
use spin::Mutex;

impl Boot {
    /// Loads every task. They have no handles yet.
    pub fn tasks(&mut self, tsc_hz: u64) -> Result<Vec<Task, MAX_TASKS>, Why> {
        let mut tasks = Vec::new();
        for (index, entry) in self.manifest.tasks.clone().iter().enumerate() {
            let task = self
                .task(index, entry, tsc_hz)
                .map_err(|reason| why(format_args!("task {} cannot be loaded: {reason}", entry.name)))?;
            // As many as the manifest has.
            let _ = tasks.push(task);
        }
        Ok(tasks)
    }

    fn task(&mut self, index: usize, task: &manifest::Task, tsc_hz: u64) -> Result<Task, &'static str> {
        if usize::from(task.priority) >= PRIORITIES || task.priority == 0 {
            return Err("its priority is not 1 to 7");
        }
        let root = self.frames.address_space().ok_or("no memory for its tables")?;
        let space = Space::new(root, index as u16 + 1, self.features);
        let count = u64::from(task.frames);
        let first_pfn = self.frames.take(count, 512).ok_or("no run of free memory is as long as its frames")?;
        let manifest = self.module(MODULE).ok_or("the manifest is gone")?.range.clone();
        let mut info = BootInfo {
            protocol: PROTOCOL,
            task: index as u8,
            incarnation: 0,
            tsc_hz,
            manifest_len: (manifest.end - manifest.start) as u32,
            first_pfn: first_pfn.0,
            frames: count - u64::from(self.donated(task)),
            modules: Vec::new(),
            vms: self.vms_of(task),
            guest_physical_bits: guest_physical_bits(),
            fast_strings: cpu::fast_strings(),
            kept: 0,
        };
        let module = |name: &Name| Some((name.clone(), self.module(name)?.range.clone()));
        let modules: Option<Vec<_, { manifest::MAX_MODULES }>> = task.modules.iter().map(module).collect();
        let modules = modules.ok_or("a module that it shall see is not among the boot modules")?;
        let images = [&task.image].into_iter().chain(&task.spares).map(|name| {
            let file = self.module(name).ok_or("an image is not among the boot modules")?.bytes();
            let root = self.frames.cleared(1).ok_or("no memory for the tables of its images")?;
            Builder { frames: &mut self.frames, memory: &self.memory, root }.image(file)
        });
        let images = images.collect::<Result<Vec<Image, { MAX_SPARES + 1 }>, _>>()?;
        let mut builder = Builder { frames: &mut self.frames, memory: &self.memory, root };
        for pfn in first_pfn.0..first_pfn.0 + count {
            self.table.assign(Pfn(pfn), index as u8);
            builder.map(layout::FRAMES + (pfn << 12), Pfn(pfn), Rights::READ | Rights::WRITE)?;
        }
        let mut address = layout::MODULES;
        for (name, range) in modules {
            builder.map_range(address, range.clone())?;
            let len = range.end - range.start;
            // As many as the manifest has.
            let _ = info.modules.push(ModuleInfo { name, address, len });
            address += len.next_multiple_of(4096);
        }
        builder.map_range(layout::MANIFEST, manifest)?;
        let message = builder.map_new(layout::MESSAGE, Rights::READ | Rights::WRITE)?;
        let info_pfn = builder.map_new(layout::BOOT_INFO, Rights::READ)?;
        restart::tell(&self.memory, info_pfn, &info).ok_or("its boot information is too long")?;
        images[0].put_on(root, &self.memory);
        let manifest::Task { name, priority, supervisor, ports, .. } = task.clone();
        let patience = u64::from(task.deadline_ms) * (tsc_hz / 1000);
        let (handles, stale) = ([Handle::Empty; handle::TABLE], AtomicBool::new(false));
        Ok(Task { name, priority, patience, space, message, supervisor, ports, images, info, info_pfn, handles, stale })
    }

    fn module(&self, name: &str) -> Option<&Module> {
        self.modules.iter().find(|module| module.name == name)
    }

    /// Frames of the task's share that become tables of its VMs.
    fn donated(&self, task: &manifest::Task) -> u32 {
        let vms = self.manifest.vms.iter().filter(|vm| vm.pager.as_ref() == Some(&task.name));
        vms.map(|vm| u32::from(vm.tables)).sum()
    }

    fn vms_of(&self, task: &manifest::Task) -> Vec<u8, MAX_VMS> {
        let vms = self.manifest.vms.iter().enumerate();
        let part = |vm: &manifest::Vm| [&vm.pager, &vm.shadow].contains(&&Some(task.name.clone()));
        vms.filter(|(_, vm)| vm.server == task.name || part(vm)).map(|(index, _)| index as u8).collect()
    }

    /// Makes every VM, with an empty EPT and an empty pool.
    pub fn vms(&mut self, tasks: &[Task]) -> Result<Vec<Vm, MAX_VMS>, Why> {
        let mut made = Vec::new();
        for (index, vm) in self.manifest.vms.iter().enumerate() {
            let bad = |reason: &str| why(format_args!("VM {}: {reason}", vm.name));
            let (server, _) = self.manifest.task(&vm.server).ok_or_else(|| bad("its server is not a task"))?;
            let task = |name: &Option<Name>, reason| match name {
                Some(name) => self.manifest.task(name).map(Some).ok_or_else(|| bad(reason)),
                None => Ok(None),
            };
            let pager = task(&vm.pager, "its pager is not a task")?;
            let shadow = task(&vm.shadow, "its shadow is not a task")?.map(|(shadow, _)| shadow as u8);
            if shadow.is_some() && (pager.is_none() || vm.shadow == vm.pager || shadow == Some(server as u8)) {
                return Err(bad("its shadow must be a task beside its pager and its server"));
            }
            if vm.vcpus == 0 || usize::from(vm.vcpus) > MAX_VCPUS {
                return Err(bad("it has no vCPU, or too many"));
            }
            if pager.is_some_and(|(_, task)| task.frames < self.donated(task)) {
                return Err(bad("its pager has fewer frames than its tables need"));
            }
            let root = self.frames.cleared(1).ok_or_else(|| bad("no memory for its EPT"))?;
            let exits_to = pager.map_or(server, |(pager, _)| pager);
            let vm = Vm {
                id: index as u8,
                first_mapping: FirstMapping::of(index as u8),
                root,
                eptp: ept_entry::pointer(root, EptCapabilities::read()),
                pager: pager.map(|(pager, _)| pager as u8),
                shadow,
                shown: Mutex::default(),
                server: server as u8,
                exit_space: tasks[exits_to].space,
                bits: guest_physical_bits(),
                pool: Mutex::default(),
                mmu_seq: AtomicU64::new(1),
                mapped: AtomicU64::new(0),
                generation: AtomicU64::new(0),
                tables_left: AtomicU64::new(0),
                logged: AtomicBool::new(false),
                invepts: AtomicU64::new(0),
                hides: AtomicBool::new(shadow.is_some()),
            };
            self.table.assign_root(root, index as u8);
            // As many as the manifest has.
            let _ = made.push(vm);
        }
        Ok(made)
    }
}

/// Gives every task its handles.
pub fn give_handles(tasks: &mut [Task], manifest: &Manifest, vms: &[Vm]) {
    let mut first_vcpu = 0;
    let serves = |task: usize| vms.iter().any(|vm| usize::from(vm.server) == task);
    let supervisor = (0..manifest.tasks.len()).find(|task| manifest.tasks[*task].supervisor && !serves(*task));
    for (vm, entry) in vms.iter().zip(&manifest.vms) {
        let index = usize::from(vm.id);
        let server = &mut tasks[usize::from(vm.server)].handles;
        server[usize::from(handle::vm(index))] = Handle::ReadVm(vm.id);
        if let Some(supervisor) = supervisor {
            server[usize::from(handle::SUPERVISOR)] = Handle::Portal(vm.id, supervisor as u8);
        }
        if let Some(pager) = vm.pager {
            server[usize::from(handle::pager(index))] = Handle::Portal(vm.id, pager);
        }
        for vcpu in 0..entry.vcpus {
            server[usize::from(handle::vcpu(index, usize::from(vcpu)))] = Handle::Vcpu(first_vcpu + vcpu);
        }
        if let Some(shadow) = vm.shadow {
            server[usize::from(handle::shadow(index))] = Handle::Portal(vm.id, shadow);
            tasks[usize::from(shadow)].handles[usize::from(handle::vm(index))] = Handle::ShadowedVm(vm.id);
        }
        if let Some(pager) = vm.pager {
            tasks[usize::from(pager)].handles[usize::from(handle::vm(index))] = Handle::PagedVm(vm.id);
        }
        first_vcpu += entry.vcpus;
    }
    for task in tasks.iter_mut().filter(|task| task.supervisor) {
        task.handles[usize::from(handle::MACHINE)] = Handle::Machine;
    }
}

/// Donates the table frames that the manifest gives each VM: the last of its pager's share.
pub fn fill_pools(system: &System, manifest: &Manifest) -> Result<(), Why> {
    let mut given = [0u64; MAX_TASKS];
    for (vm, entry) in system.vms.iter().zip(&manifest.vms) {
        let Some(pager) = vm.pager else { continue };
        let task = usize::from(pager);
        for _ in 0..entry.tables {
            given[task] += 1;
            let pfn = system.tasks[task].info.first_pfn + u64::from(manifest.tasks[task].frames) - given[task];
            memop::donate(system, vm, pager, Pfn(pfn), 1)
                .map_err(|refused| why(format_args!("VM {}: its tables: {refused}", entry.name)))?;
        }
    }
    Ok(())
}

/// Makes every vCPU, parked, and shows its state page to its server.
pub fn vcpus(core: &mut Core, frames: &mut BootFrames, manifest: &Manifest, tables: [u64; 3]) -> Result<(), Why> {
    let nothing_left = || why(format_args!("no memory for the vCPUs"));
    let system = core.system;
    let msr_bitmap = guest::msr_bitmap(frames).ok_or_else(nothing_left)?;
    let owner = core::ptr::from_mut(core);
    for (vm, entry) in system.vms.iter().zip(&manifest.vms) {
        for number in 0..entry.vcpus {
            let place = guest::Place {
                ept_root: vm.root,
                vpid: (usize::from(vm.id) * MAX_VCPUS) as u16 + u16::from(number) + 1,
                space: vm.exit_space,
                core: owner,
                stack: core.stack(),
                tables,
                msr_bitmap,
            };
            let cpu: GuestCpu = vmx::guest::GuestCpu::new(frames, &place).ok_or_else(nothing_left)?;
            let address = layout::VCPU_STATE + (usize::from(vm.id) * MAX_VCPUS + usize::from(number)) as u64 * 4096;
            let root = system.tasks[usize::from(vm.server)].space.root();
            Builder { frames, memory: &system.memory, root }
                .map(address, cpu.state_frame(), Rights::READ | Rights::WRITE)
                .map_err(|reason| why(format_args!("{reason}")))?;
            let ticks = frames.words(CLASSES).and_then(|ticks| ticks.try_into().ok()).ok_or_else(nothing_left)?;
            // As many as the manifest may have.
            let _ = core.vcpus.push(Vcpu::new(vm, number, cpu, ticks));
        }
    }
    Ok(())
}
