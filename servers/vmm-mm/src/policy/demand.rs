//! `demand`: exactly the page that was touched, when it is touched.

use super::{Advice, Policy};
use crate::fault::PageFault;

/// The plainest policy: no memory is spent that the guest did not ask for.
#[derive(Debug)]
pub struct Demand;

impl Policy for Demand {
    const NAME: &'static str = "demand";
    const ONE_PAGE: bool = true;

    #[inline]
    fn advise(&mut self, _: &PageFault) -> Advice {
        Advice::THE_PAGE
    }
}
