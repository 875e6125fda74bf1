//! A guest that follows the pointers from the BIOS area finds tables that are whole.

use super::{RSDP, TABLES};
use crate::power::{RESET_VALUE, SLEEP_TYPE_S5, port};

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// The table at that guest-physical address, checked by its length and its checksum.
fn table(address: u64, signature: &[u8; 4]) -> &'static [u8] {
    let table = &TABLES[(address - RSDP) as usize..];
    let table = &table[..number(table, 4, 4) as usize];
    assert_eq!((&table[..4], sum(table)), (&signature[..], 0));
    table
}

#[test]
fn both_roots_lead_to_the_same_fadt() {
    assert_eq!((&TABLES[..8], TABLES[15]), (&b"RSD PTR "[..], 2));
    assert_eq!((sum(&TABLES[..20]), sum(&TABLES[..36])), (0, 0));
    let xsdt = table(number(TABLES, 24, 8), b"XSDT");
    let rsdt = table(number(TABLES, 16, 4), b"RSDT");
    assert_eq!((xsdt.len(), rsdt.len()), (44, 40));
    assert_eq!(number(xsdt, 36, 8), number(rsdt, 36, 4));
}

#[test]
fn the_fadt_names_the_registers_that_the_machine_has() {
    let fadt = table(number(table(number(TABLES, 24, 8), b"XSDT"), 36, 8), b"FACP");
    assert_eq!(number(fadt, 46, 2), 9);
    assert_eq!(number(fadt, 48, 4), 0);
    assert_eq!(number(fadt, 56, 4), u64::from(port::PM1A_EVENT));
    assert_eq!(number(fadt, 64, 4), u64::from(port::PM1A_CONTROL));
    assert_eq!(number(fadt, 76, 4), u64::from(port::PM_TIMER));
    assert_eq!(number(fadt, 120, 8), u64::from(port::RESET));
    assert_eq!(fadt[128], RESET_VALUE);
}

#[test]
fn the_dsdt_says_how_to_power_off() {
    let fadt = table(number(table(number(TABLES, 24, 8), b"XSDT"), 36, 8), b"FACP");
    let dsdt = table(number(fadt, 40, 4), b"DSDT");
    // Name (_S5_, Package () { 0, 0, 0, 0 }): ZeroOp is 0.
    assert_eq!(SLEEP_TYPE_S5, 0);
    assert_eq!(&dsdt[36..], [8, b'_', b'S', b'5', b'_', 0x12, 6, 4, 0, 0, 0, 0]);
    assert_eq!(number(fadt, 36, 4) % 64, 0);
}
