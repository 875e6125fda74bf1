//! A flat guest: raw bytes at 1 MiB, entered there in 64-bit mode with the size of RAM in RDI.

use super::{Image, LoadError, place};
use crate::memory::GuestMemory;
use crate::start;
use ipc_proto::layout::FLAT_GUEST;
use ipc_proto::state::VcpuState;

/// Loads the guest and says in which state it starts.
///
/// # Errors
/// [`LoadError`]: an empty image, or one larger than RAM.
pub fn load(image: &Image<'_>, memory: &mut dyn GuestMemory) -> Result<VcpuState, LoadError> {
    if image.kernel.is_empty() {
        return Err(LoadError::Truncated("the flat image, which is empty"));
    }
    start::write_tables(memory)?;
    place(memory, "the flat image", FLAT_GUEST, image.kernel)?;
    let mut state = start::long_mode(FLAT_GUEST);
    state.gprs.rdi = image.ram.bytes();
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::load;
    use crate::load::{Image, LoadError};
    use crate::memory::{GuestMemory, RamMap};
    use crate::testing::Memory;

    fn image(kernel: &[u8]) -> Image<'_> {
        Image { name: "flat", kernel, modules: &[], command_line: "", ram: RamMap::new(4 << 20) }
    }

    #[test]
    fn a_flat_guest_is_at_1_mib_and_starts_there_with_its_ram_in_rdi() {
        let mut memory = Memory::new(4 << 20);
        let state = load(&image(&[0xf4, 0x90]), &mut memory).unwrap();
        let mut bytes = [0; 2];
        memory.read(0x10_0000, &mut bytes).unwrap();
        assert_eq!((bytes, state.rip, state.gprs.rdi), ([0xf4, 0x90], 0x10_0000, 4 << 20));
        assert_eq!(state.rsp, 0x8_0000);
    }

    #[test]
    fn an_image_larger_than_ram_or_empty_is_refused() {
        let mut memory = Memory::new(4 << 20);
        let large = std::vec![0; 4 << 20];
        assert!(matches!(load(&image(&large), &mut memory), Err(LoadError::NoRoom(..))));
        assert!(matches!(load(&image(&[]), &mut memory), Err(LoadError::Truncated(_))));
    }
}
