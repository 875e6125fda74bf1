//! TOML to manifest: what is packed, and every refusal.

use super::*;
use ipc_proto::manifest::{BootProtocol, Ports};

const GOOD: &str = r#"
name = "good"
log = "debug"
check = true
[task.vmm-mm]
image = "vmm-mm"
priority = 2
memory = "guests + 8 MiB"
options.policy = "demand"
[task.vcpu]
image = "vcpu"
memory = "64 frames"
supervisor = true
options.console.poll_ms = 20
ports = ["0x3f8-0x3ff"]
[vm.guest]
pager = "vmm-mm"
server = "vcpu"
memory = "64 MiB"
tables = 256
kernel = "touch"
protocol = "flat"
cmdline = "one two"
"#;

fn parse(text: &str) -> anyhow::Result<System> {
    read("boot/good.toml", &text.parse().expect("TOML"))
}

fn refusal(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    let error = parse(&GOOD.replace(from, to)).expect_err(to);
    assert_eq!(status::Status::of(&error), status::Status::Usage, "{error:#}");
    format!("{error:#}")
}

#[test]
fn every_key_of_the_file_reaches_the_manifest() {
    let system = parse(GOOD).expect("good");
    let manifest = &system.manifest;
    assert_eq!((manifest.name.as_str(), manifest.log, manifest.check), ("good", LogLevel::Debug, true));
    let (_, pager) = manifest.task("vmm-mm").expect("vmm-mm");
    assert_eq!((pager.priority, pager.frames, pager.supervisor), (2, (64 + 8) * 256, false));
    assert_eq!(pager.option("policy"), Some("demand"));
    let (_, vcpu) = manifest.task("vcpu").expect("vcpu");
    assert_eq!((vcpu.priority, vcpu.frames, vcpu.supervisor), (1, 64, true));
    assert_eq!(vcpu.option("console.poll_ms"), Some("20"), "a table makes the key dotted");
    assert_eq!(vcpu.ports.as_slice(), [Ports { first: 0x3f8, last: 0x3ff }]);
    assert_eq!(vcpu.modules.as_slice(), ["touch"], "a VM's server sees the guest's kernel");
    let vm = &manifest.vms[0];
    assert_eq!((vm.memory, vm.tables, vm.vcpus), (64 * 256, 256, 1));
    assert_eq!(vm.guest.protocol, BootProtocol::Flat);
    assert_eq!(vm.guest.command_line.as_str(), "one two");
    let names: Vec<&str> = system.modules.iter().map(|module| module.name.as_str()).collect();
    assert_eq!(names, ["vmm-mm", "vcpu", "touch"]);
    assert_eq!(system.memory(), (72 << 20) + (64 << 12));
}

#[test]
fn refusals_name_file_key_mistake_and_what_is_allowed() {
    let message = refusal("memory = \"64 MiB\"", "memory = \"64 MB\"");
    for part in ["boot/good.toml", "vm.guest.memory", "64 MB", "MiB"] {
        assert!(message.contains(part), "{message} says {part}");
    }
    let message = refusal("priority = 2", "prioritiy = 2");
    for part in ["task.vmm-mm.prioritiy", "unknown key", "image, spares, priority, memory"] {
        assert!(message.contains(part), "{message} says {part}");
    }
}

#[test]
fn every_kind_of_mistake_is_refused() {
    for (from, to, says) in [
        ("log = \"debug\"", "log = \"loud\"", "error, warn, info"),
        ("check = true", "check = 1", "true or false"),
        ("image = \"vcpu\"", "image = \"vcpux\"", "vmm-mm"),
        ("priority = 2", "priority = 0", "1 to 7"),
        ("guests + 8 MiB", "guests - 8 MiB", "guests + 8 MiB"),
        ("guests + 8 MiB", "1 MiB", "fewer than the 256 frames"),
        ("0x3f8-0x3ff", "0x3ff-0x3f8", "0x3f8-0x3ff"),
        ("server = \"vcpu\"", "server = \"nobody\"", "vmm-mm, vcpu"),
        ("pager = \"vmm-mm\"", "pager = \"nobody\"", "vmm-mm, vcpu"),
        ("protocol = \"flat\"", "protocol = \"elf\"", "linux, multiboot, flat"),
        ("kernel = \"touch\"", "", "missing"),
        ("cmdline = \"one two\"", "cmdline = 3", "text in quotes"),
        ("[vm.guest]", "[vm.guest]\nvcpus = 9", "1 to 4"),
        ("supervisor = true", "modules = [\"nothing\"]", "no boot module"),
        ("policy = \"demand\"", "policy = \"demant\"", "allowed: demand"),
        ("policy = \"demand\"", "policy = \"fault-around\"\noptions.\"policy.window\" = 513", "from 1 to 512"),
        ("policy = \"demand\"", "policy = \"demand\"\noptions.\"policy.window\" = 5", "allowed: none"),
        (
            "policy = \"demand\"",
            "policy = \"huge\"\noptions.\"policy.window\" = 5",
            "allowed: policy.nx_huge, policy.page",
        ),
        ("policy = \"demand\"", "polisy = \"demand\"", "allowed: policy"),
        ("poll_ms = 20", "poll_ms = \"often\"", "1 to 1000"),
        ("name = \"good\"", "nome = \"good\"", "name, about, log"),
    ] {
        let message = refusal(from, to);
        assert!(message.contains(says), "{message}: says {says}");
    }
}

#[test]
fn a_vm_without_a_pager_is_a_system_all_the_same() {
    let mut table: Table = GOOD.parse().expect("TOML");
    set::apply(&mut table, "task.vmm-mm=none").expect("removed");
    let system = read("boot/good.toml", &table).expect("good");
    assert_eq!(system.manifest.vms[0].pager, None);
    assert!(system.manifest.task("vmm-mm").is_none());
}

#[test]
fn the_systems_of_the_repository_are_right_for_either_console_and_fit_a_page() {
    for name in names() {
        for console in [Console::Watched, Console::Interactive] {
            let request = Request { system: name.clone(), console, ..Request::default() };
            let system = load(&request).expect(&name);
            let mut bytes = [0; 4096];
            ipc_proto::wire::encode(&system.manifest, &mut bytes).expect("a manifest of one page at most");
        }
    }
    assert!(names().iter().any(|name| name == "linux") && names().iter().any(|name| name == "touch"));
}

#[test]
fn an_unknown_system_lists_the_known_ones() {
    let error = load(&Request { system: "linucks".into(), ..Request::default() }).expect_err("unknown");
    assert!(error.to_string().contains("linux, ") || error.to_string().contains("linux"), "{error}");
    assert_eq!(status::Status::of(&error), status::Status::Usage);
}

#[test]
fn a_path_becomes_a_module_name_of_one_word() {
    assert_eq!(module_name("/boot/vmlinuz-6.1 (old)"), "vmlinuz-6.1__old_");
    assert_eq!(module_name("touch"), "touch");
}
