//! The whole of a tree that another incarnation has made.

use super::page::{LARGE as LARGE_BIT, Note, Page};
use super::{BLOCK, Content, OutOfFrames, SHIFT, Tree, WORDS, new_entry};
use crate::machine::Memory;
use crate::pool::{LARGE, Pool};

/// What a tree refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// A node of its own.
    Node(u32),
    /// So many frames from that one on are a page's own.
    Own(u32, u32),
    /// A frame that other pages may have too.
    Shared(u32),
    /// A place in the compressed store.
    Packed(u32),
}

impl Tree {
    /// The root, and where in a block the first page lies; the root is made if there is none.
    ///
    /// # Errors
    /// [`OutOfFrames`].
    pub fn plant(&mut self, pool: &mut Pool, memory: &mut impl Memory) -> Result<(u32, u32), OutOfFrames> {
        if self.root == 0 {
            self.root = new_entry(pool, memory)?;
        }
        Ok((self.root, self.skew))
    }

    /// The tree with that root and skew, of a slot of `pages` pages.
    #[must_use]
    pub const fn planted(root: u32, skew: u32, pages: u64) -> Self {
        Self { root, ..Self::new(skew as u64, pages) }
    }

    /// Visits everything that the tree refers to, nodes before what is below them. What a death may have left behind in the
    /// entries of a large page is cleared; with `written` every page that has content is noted as written.
    ///
    /// # Errors
    /// The first of `visit`.
    pub fn walk<M: Memory, E>(
        &mut self,
        written: bool,
        memory: &mut M,
        visit: &mut impl FnMut(&mut M, Held) -> Result<(), E>,
    ) -> Result<(), E> {
        self.split = 0;
        below(self.root, self.top, written, memory, visit)
    }
}

/// Four levels at most, so the recursion is bounded.
fn below<M: Memory, E>(
    entry: u32,
    shift: u32,
    written: bool,
    memory: &mut M,
    visit: &mut impl FnMut(&mut M, Held) -> Result<(), E>,
) -> Result<(), E> {
    let Some(node) = entry.checked_sub(1) else { return Ok(()) };
    visit(memory, Held::Node(node))?;
    if let Some(shift) = shift.checked_sub(SHIFT) {
        return (0..WORDS).try_for_each(|place| below(memory.word(node, place), shift, written, memory, visit));
    }
    for head in [0, BLOCK] {
        let first = memory.word(node, head);
        if first & LARGE_BIT != 0 {
            (head + 1..head + BLOCK).for_each(|place| memory.set_word(node, place, 0));
            if let Content::Own(frame) = Page(first).content() {
                visit(memory, Held::Own(frame, LARGE))?;
            }
            continue;
        }
        for place in head..head + BLOCK {
            let page = Page(memory.word(node, place));
            let used = match page.content() {
                Content::Nothing => continue,
                Content::Own(frame) => Held::Own(frame, 1),
                Content::Shared(frame) => Held::Shared(frame),
                Content::Packed(place) => Held::Packed(place),
            };
            if written {
                memory.set_word(node, place, page.0 | Note::Dirty.bit());
            }
            visit(memory, used)?;
        }
    }
    Ok(())
}
