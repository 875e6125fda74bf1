//! The ACPI tables as one block of bytes: root pointer, RSDT, XSDT, FADT, FACS, DSDT. The machine has a power button's
//! worth of ACPI: a timer, a reset register, the sleep state S5. No MADT: there is no APIC.

use acpi_tables::Aml;
use acpi_tables::aml::{Name, Package};
use acpi_tables::facs::FACS;
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;

const OEM: [u8; 6] = *b"FAULTL";
const OEM_TABLE: [u8; 8] = *b"FAULTLIN";
const REVISION: u32 = 1;

/// Guest-physical address of the block; `vcpu::acpi::RSDP`.
const BASE: u64 = 0xe_0000;
const XSDT_AT: usize = 0x40;
const RSDT_AT: usize = 0x80;
/// FACS is aligned to 64 bytes.
const FACS_AT: usize = 0xc0;
const FADT_AT: usize = 0x100;
const DSDT_AT: usize = 0x280;

const SCI: u16 = 9;
const PM1A_EVENT: u16 = 0x600;
const PM1A_CONTROL: u16 = 0x604;
const PM_TIMER: u16 = 0x608;
const RESET: u16 = 0xcf9;
const RESET_VALUE: u8 = 6;
const SLEEP_TYPE_S5: u8 = 0;
const CMOS_CENTURY: u8 = 0x32;
/// IA-PC boot architecture flags: legacy devices; no 8042, no VGA, no MSI, no PCIe ASPM.
const BOOT_ARCHITECTURE: u16 = 1 | 1 << 2 | 1 << 3 | 1 << 4;

/// The block.
pub fn tables() -> Vec<u8> {
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, REVISION);
    xsdt.add_entry(BASE + FADT_AT as u64);
    let mut rsdt = Sdt::new(*b"RSDT", 36, 1, OEM, OEM_TABLE, REVISION);
    rsdt.append(BASE as u32 + FADT_AT as u32);

    let mut block = Vec::new();
    put(&mut block, 0, &root_pointer());
    put(&mut block, XSDT_AT, &bytes(&xsdt));
    put(&mut block, RSDT_AT, rsdt.as_slice());
    put(&mut block, FACS_AT, &bytes(&FACS::new()));
    put(&mut block, FADT_AT, &bytes(&fadt()));
    put(&mut block, DSDT_AT, &dsdt());
    block
}

/// Places must not overlap: each is behind what is there already.
fn put(block: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    assert!(block.len() <= at, "the table at {at:#x} overlaps the one before it");
    block.resize(at, 0);
    block.extend_from_slice(bytes);
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// The crate leaves the RSDT's address zero: it is filled in here, and both checksums again.
fn root_pointer() -> Vec<u8> {
    let mut pointer = bytes(&Rsdp::new(OEM, BASE + XSDT_AT as u64));
    pointer[16..20].copy_from_slice(&(BASE as u32 + RSDT_AT as u32).to_le_bytes());
    for (place, len) in [(8, 20), (32, 36)] {
        pointer[place] = 0;
        pointer[place] = pointer[..len].iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
    }
    pointer
}

fn fadt() -> acpi_tables::fadt::FADT {
    let port = |address: u16, bits: u8, size| GAS::new(AddressSpace::SystemIo, bits, 0, size, u64::from(address));
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, REVISION);
    fadt.sci_int = SCI.into();
    fadt.pm1a_evt_blk = u32::from(PM1A_EVENT).into();
    fadt.pm1a_cnt_blk = u32::from(PM1A_CONTROL).into();
    fadt.pm_tmr_blk = u32::from(PM_TIMER).into();
    fadt.pm1_evt_len = 4;
    fadt.pm1_cnt_len = 2;
    fadt.pm_tmr_len = 4;
    // Deeper idle states do not exist: their latencies are beyond what the specification allows.
    fadt.p_lvl2_lat = 101.into();
    fadt.p_lvl3_lat = 1001.into();
    fadt.century = CMOS_CENTURY;
    fadt.iapc_boot_arch = BOOT_ARCHITECTURE.into();
    fadt.reset_reg = port(RESET, 8, AccessSize::ByteAccess);
    fadt.reset_value = RESET_VALUE;
    fadt.x_pm1a_evt_blk = port(PM1A_EVENT, 32, AccessSize::WordAccess);
    fadt.x_pm1a_cnt_blk = port(PM1A_CONTROL, 16, AccessSize::WordAccess);
    fadt.x_pm_tmr_blk = port(PM_TIMER, 32, AccessSize::DwordAccess);
    let flags = [
        Flags::Wbinvd,
        Flags::ProcC1,
        // Set means: no such button in the fixed registers.
        Flags::PwrButton,
        Flags::SlpButton,
        Flags::FixRtc,
        Flags::TmrValExt,
        Flags::ResetRegSup,
        Flags::Headless,
    ];
    let fadt = flags.into_iter().fold(fadt, |fadt, flag| fadt.flag(flag));
    let at = |offset: usize| BASE as u32 + offset as u32;
    fadt.dsdt_32(at(DSDT_AT)).firmware_ctrl_32(at(FACS_AT)).finalize()
}

fn dsdt() -> Vec<u8> {
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM, OEM_TABLE, REVISION);
    let zero = 0u8;
    let sleep = Package::new(vec![&SLEEP_TYPE_S5, &zero, &zero, &zero]);
    dsdt.append_slice(&bytes(&Name::new("_S5_".into(), &sleep)));
    dsdt.as_slice().to_vec()
}
