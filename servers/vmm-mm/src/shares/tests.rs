use super::{Wrong, shares};
use ipc_proto::manifest::{BootProtocol, Guest, MAX_VMS, Name, Setting, Vm};
use std::vec::Vec;

fn name(text: &str) -> Name {
    Name::try_from(text).expect("a short name")
}

/// VMs of so many pages each, called a, b, c.
fn vms(ram: &[u32]) -> Vec<Vm> {
    let vm = |(place, memory): (usize, &u32)| Vm {
        name: name(["a", "b", "c"][place]),
        pager: Some(name("mm")),
        server: name("vcpu"),
        vcpus: 1,
        memory: *memory,
        tables: 8,
        guest: Guest {
            protocol: BootProtocol::Flat,
            kernel: name("k"),
            modules: heapless::Vec::new(),
            command_line: heapless::String::new(),
        },
        shadow: None,
    };
    ram.iter().enumerate().map(vm).collect()
}

fn settings(options: &[(&str, &str)]) -> Vec<Setting> {
    let setting = |(key, value): &(&str, &str)| Setting {
        key: name(key),
        value: heapless::String::try_from(*value).expect("a short value"),
    };
    options.iter().map(setting).collect()
}

fn shared(ram: &[u32], options: &[(&str, &str)], frames: u64) -> Vec<u64> {
    let (settings, mine) = (settings(options), (0..ram.len() as u8).collect::<Vec<_>>());
    let shares = shares(&vms(ram), &settings, &mine, frames).expect("shares");
    assert!(shares[ram.len()..] == [0; MAX_VMS][ram.len()..], "who is not there has none");
    shares[..ram.len()].to_vec()
}

#[test]
fn every_frame_is_somebodys_in_proportion_to_ram() {
    assert_eq!(shared(&[100], &[], 77), [77]);
    assert_eq!(shared(&[100, 300], &[], 1000), [250, 750]);
    assert_eq!(shared(&[100, 100, 100], &[], 100).iter().sum::<u64>(), 100, "none is lost by rounding");
}

#[test]
fn what_the_manifest_says_holds_and_the_others_have_the_rest() {
    assert_eq!(shared(&[100, 300, 100], &[("frames.b", "50"), ("policy", "clock")], 1000), [475, 50, 475]);
    assert_eq!(shared(&[100, 300], &[("frames.a", "10"), ("frames.b", "20")], 1000), [10, 20]);
}

#[test]
fn what_cannot_be_is_named() {
    let wrong = |options: &[(&str, &str)], mine: &[u8]| match shares(&vms(&[1, 1]), &settings(options), mine, 100) {
        Err(Wrong::NoSuchVm(_)) => "vm",
        Err(Wrong::NoNumber(_)) => "number",
        Err(Wrong::TooMany(told, 100)) if told > 100 => "many",
        other => panic!("{other:?}"),
    };
    assert_eq!(wrong(&[("frames.d", "1")], &[0, 1]), "vm");
    assert_eq!(wrong(&[("frames.b", "1")], &[0]), "vm", "it is another pager's");
    assert_eq!(wrong(&[("frames.b", "all")], &[0, 1]), "number");
    assert_eq!(wrong(&[("frames.a", "60"), ("frames.b", "60")], &[0, 1]), "many");
    assert_eq!(wrong(&[("frames.a", "18446744073709551615"), ("frames.b", "2")], &[0, 1]), "many", "no overflow");
}
