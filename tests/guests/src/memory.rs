//! Memory by address: what is there may be RAM, a device or nothing.

/// An address of the guest; guest-virtual and guest-physical are the same in a flat guest.
pub type Address = u64;

/// Size of a page, in bytes.
pub const PAGE: u64 = 4096;

/// Reads what is at `address`.
#[must_use]
pub fn read<T: Copy>(address: Address) -> T {
    // SAFETY: the guest owns every address below 4 GiB, all are mapped, and `T` is an integer wherever this is used.
    unsafe { (address as *const T).read_volatile() }
}

/// Writes `value` at `address`.
pub fn write<T: Copy>(address: Address, value: T) {
    // SAFETY: as in `read`; callers keep clear of their own image and stack.
    unsafe { (address as *mut T).write_volatile(value) }
}

/// Whether all of the page at `address` is zero, but for the words at the offsets in `besides`.
#[must_use]
pub fn is_zero(address: Address, besides: &[u64]) -> bool {
    (0..PAGE).step_by(8).all(|offset| besides.contains(&offset) || read::<u64>(address + offset) == 0)
}
