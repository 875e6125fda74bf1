//! Everything that is not hot: postcard bytes, bounded, exact to the last byte.

mod common;

use heapless::{String, Vec};
use ipc_proto::layout::{BootInfo, ModuleInfo};
use ipc_proto::manifest::in_place;
use ipc_proto::manifest::{BootProtocol, Guest, LogLevel, MAX_TASKS, Manifest, Name, Ports, Setting, Task, Vm};
use ipc_proto::slot::{SlotReply, SlotRequest};
use ipc_proto::version::{PROTOCOL, Version};
use ipc_proto::wire::{WireError, decode, encode};
use proptest::prelude::*;

fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9.-]{0,32}".prop_map(|text| Name::try_from(text.as_str()).expect("32 bytes at most"))
}

fn text<const N: usize>() -> impl Strategy<Value = String<N>> {
    proptest::collection::vec(proptest::char::range(' ', '~'), 0..=N).prop_map(|chars| chars.into_iter().collect())
}

fn some<T: core::fmt::Debug + Clone, const N: usize>(of: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T, N>> {
    proptest::collection::vec(of, 0..=N).prop_map(|items| items.into_iter().collect())
}

fn task() -> impl Strategy<Value = Task> {
    let ports = any::<(u16, u16)>().prop_map(|(first, last)| Ports { first, last });
    let setting = (name(), text()).prop_map(|(key, value)| Setting { key, value });
    let numbers = any::<(u8, u32, bool, u32, u8)>();
    (name(), name(), numbers, some(ports), some(name()), some(setting), some(name())).prop_map(
        |(name, image, (priority, frames, supervisor, deadline_ms, restart), ports, modules, options, spares)| Task {
            name,
            image,
            priority,
            frames,
            supervisor,
            ports,
            modules,
            options,
            spares,
            deadline_ms,
            restart,
        },
    )
}

fn vm() -> impl Strategy<Value = Vm> {
    let protocol = prop_oneof![Just(BootProtocol::Linux), Just(BootProtocol::Multiboot), Just(BootProtocol::Flat)];
    let guest = (protocol, name(), some(name()), text()).prop_map(|(protocol, kernel, modules, command_line)| Guest {
        protocol,
        kernel,
        modules,
        command_line,
    });
    (name(), [(); 2].map(|()| proptest::option::of(name())), name(), any::<(u8, u32, u16)>(), guest).prop_map(
        |(name, [pager, shadow], server, (vcpus, memory, tables), guest)| Vm {
            name,
            pager,
            server,
            vcpus,
            memory,
            tables,
            guest,
            shadow,
        },
    )
}

fn manifest() -> impl Strategy<Value = Manifest> {
    let log = prop_oneof![
        Just(LogLevel::Error),
        Just(LogLevel::Warn),
        Just(LogLevel::Info),
        Just(LogLevel::Debug),
        Just(LogLevel::Trace)
    ];
    (name(), log, any::<bool>(), some(task()), some(vm())).prop_map(|(name, log, check, tasks, vms)| Manifest {
        version: PROTOCOL,
        name,
        log,
        check,
        tasks,
        vms,
    })
}

fn packed(message: &impl serde::Serialize) -> std::vec::Vec<u8> {
    let mut buffer = std::vec![0; 65536];
    let len = encode(message, &mut buffer).expect("it fits");
    buffer.truncate(len);
    buffer
}

#[test]
fn a_manifest_comes_back() {
    let check = || {
        proptest!(ProptestConfig::with_cases(64), |(manifest in manifest())| {
            let mut buffer = std::vec![0; 65536];
            let len = encode(&manifest, &mut buffer).expect("it fits");
            let bytes = &buffer[..len];
            prop_assert_eq!(decode::<Manifest>(bytes), Ok(manifest.clone()));
            // Read where it lies, as a whole and one by one, it is the same.
            let again = decode::<in_place::Manifest<'_>>(bytes).map(|whole| packed(&whole));
            prop_assert_eq!(again, Ok(bytes.to_vec()));
            let (head, tasks) = in_place::open(bytes).expect("it is whole");
            let Manifest { version, ref name, log, check, .. } = manifest;
            prop_assert_eq!(head, in_place::Head { version, name, log, check });
            let vms = tasks.clone().vms().expect("it is whole");
            prop_assert!(tasks.map(|task| packed(&task)).eq(manifest.tasks.iter().map(packed)));
            prop_assert!(vms.map(|vm| packed(&vm)).eq(manifest.vms.iter().map(packed)));
            // What ends early has fewer entries.
            let cut = in_place::open(&bytes[..len / 2]).and_then(|(_, tasks)| tasks.vms());
            prop_assert!(cut.is_err() || cut.is_ok_and(|vms| vms.count() < manifest.vms.len()));
        });
    };
    // A manifest and its strategy are too much for the stack that a test has.
    let thread = std::thread::Builder::new().stack_size(16 << 20).spawn(check).expect("a thread");
    thread.join().expect("a manifest comes back");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn boot_information_comes_back(
        modules in some((name(), any::<(u64, u64)>())
            .prop_map(|(name, (address, len))| ModuleInfo { name, address, len })),
        vms in some(any::<u8>()),
        (task, incarnation, tsc_hz, manifest_len, first_pfn, frames, bits, kept)
            in any::<(u8, u32, u64, u32, u64, u64, u8, u64)>(),
    ) {
        let info = BootInfo {
            protocol: PROTOCOL, task, incarnation, tsc_hz, manifest_len, first_pfn, frames, modules, vms,
            guest_physical_bits: bits, fast_strings: task % 2 == 0, kept,
        };
        let mut buffer = [0; 4094];
        let len = encode(&info, &mut buffer).expect("it fits into its page");
        prop_assert_eq!(decode::<BootInfo>(&buffer[..len]), Ok(info));
    }
}

proptest! {
    #[test]
    fn a_slot_request_comes_back(request in common::slot_request()) {
        let mut buffer = [0; 256];
        let len = encode(&request, &mut buffer).expect("it fits");
        prop_assert_eq!(decode::<SlotRequest>(&buffer[..len]), Ok(request));
    }

    #[test]
    fn a_slot_reply_comes_back(reply in common::slot_reply()) {
        let mut buffer = [0; 256];
        let len = encode(&reply, &mut buffer).expect("it fits");
        prop_assert_eq!(decode::<SlotReply>(&buffer[..len]), Ok(reply));
    }

    /// What is cut short or has something behind it is no message.
    #[test]
    fn a_message_is_exact_to_the_last_byte(request in common::slot_request()) {
        let mut buffer = [0; 256];
        let len = encode(&request, &mut buffer).expect("it fits");
        for cut in 0..len {
            prop_assert_eq!(decode::<SlotRequest>(&buffer[..cut]), Err(WireError::Malformed));
        }
        prop_assert_eq!(decode::<SlotRequest>(&buffer[..=len]), Err(WireError::Trailing));
        prop_assert_eq!(encode(&request, &mut buffer[..len - 1]), Err(WireError::TooLong));
    }

    #[test]
    fn no_bytes_stop_a_reader(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode::<SlotRequest>(&bytes);
        let _ = decode::<SlotReply>(&bytes);
        let _ = decode::<BootInfo>(&bytes);
        let _ = decode::<Manifest>(&bytes);
    }
}

#[test]
fn an_unknown_variant_is_malformed() {
    for variant in 16..=127 {
        assert_eq!(decode::<SlotRequest>(&[variant]), Err(WireError::Malformed), "request {variant}");
    }
    for variant in 8..=127 {
        assert_eq!(decode::<SlotReply>(&[variant]), Err(WireError::Malformed), "reply {variant}");
    }
}

#[test]
fn more_than_a_bound_allows_is_malformed() {
    // A manifest is version, name, log, check, tasks: one more task than there is room for.
    let many = (PROTOCOL, "name", 2u8, true, std::vec![(); MAX_TASKS + 1]);
    let mut buffer = [0; 256];
    let len = postcard::to_slice(&many, &mut buffer).expect("it fits").len();
    assert_eq!(decode::<Manifest>(&buffer[..len]), Err(WireError::Malformed));
    // A name of 33 bytes.
    let long = (PROTOCOL, "123456789012345678901234567890123");
    let len = postcard::to_slice(&long, &mut buffer).expect("it fits").len();
    assert_eq!(decode::<(Version, Name)>(&buffer[..len]), Err(WireError::Malformed));
}

#[test]
fn versions_with_the_same_major_understand_each_other() {
    let version = |major, minor| Version { major, minor };
    assert!(version(0, 1).understands(version(0, 9)));
    assert!(!version(0, 1).understands(version(1, 1)));
}
