//! Which VM has how many of the pager's frames: what one has, no other can take from it.

use ipc_proto::manifest::{MAX_VMS, Setting, Vm};

/// Option `frames.VM = COUNT`: so many frames are that VM's.
const OPTION: &str = "frames.";

/// Frames by the VM's place in the manifest.
pub type Shares = [u64; MAX_VMS];

/// Why frames cannot be shared out so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong<'a> {
    /// The option names no VM of this pager.
    NoSuchVm(&'a str),
    /// The option's value is no number.
    NoNumber(&'a str),
    /// The options give away more frames than there are: so many, of so many.
    TooMany(u64, u64),
}

/// All frames are the first VM's.
#[must_use]
pub const fn whole(frames: u64) -> Shares {
    let mut shares = [0; MAX_VMS];
    shares[0] = frames;
    shares
}

/// Shares `frames` out among those of `all` VMs that are `mine`: as the options say; what they leave, among the others, in
/// proportion to their RAM.
///
/// # Errors
/// [`Wrong`].
pub fn shares<'a, N: AsRef<str>, V: AsRef<str>, L>(
    all: &[Vm<N, L>],
    options: &'a [Setting<N, V>],
    mine: &[u8],
    frames: u64,
) -> Result<Shares, Wrong<'a>> {
    let mut given = [None; MAX_VMS];
    for option in options {
        let Some(name) = option.key.as_ref().strip_prefix(OPTION) else { continue };
        let place = all.iter().position(|vm| vm.name.as_ref() == name);
        let place = place.filter(|place| mine.iter().any(|vm| usize::from(*vm) == *place));
        let count: u64 = option.value.as_ref().parse().map_err(|_| Wrong::NoNumber(option.value.as_ref()))?;
        *place.and_then(|place| given.get_mut(place)).ok_or(Wrong::NoSuchVm(name))? = Some(count);
    }
    let told = given.iter().flatten().fold(0, |sum: u64, count| sum.saturating_add(*count));
    let mut left = frames.checked_sub(told).ok_or(Wrong::TooMany(told, frames))?;
    let ram = |vm: usize| all.get(vm).map_or(0, |vm| u64::from(vm.memory).max(1));
    let others = || mine.iter().map(|vm| usize::from(*vm)).filter(|vm| given.get(*vm) == Some(&None));
    let mut parts: u64 = others().map(ram).sum();
    let mut shares = given.map(Option::unwrap_or_default);
    for vm in others() {
        // The last one gets what is left: nothing is lost by rounding.
        shares[vm] = (u128::from(left) * u128::from(ram(vm)) / u128::from(parts.max(1))) as u64;
        (left, parts) = (left - shares[vm], parts - ram(vm));
    }
    Ok(shares)
}

#[cfg(test)]
mod tests;
