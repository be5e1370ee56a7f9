//! Bodies that go by, as much of them as is kept.

use core::cell::Cell;

/// What has come of a body
///
/// INVARIANT: it counts in [`KEPT`] as long as it is there, however its stream ends.
#[derive(Debug, Default)]
pub(crate) struct Kept(Vec<u8>);

/// Bytes of bodies that a VM keeps at the same time, all streams together: what exceeds them is
/// not looked at. What a request is held for in `mode: enforce` the host keeps.
const MAX_KEPT: usize = 8 * 1024 * 1024;

thread_local! {
    static KEPT: Cell<usize> = const { Cell::new(0) };
}

impl Kept {
    /// Adds a piece; false when too much is kept already
    pub(crate) fn keep(&mut self, piece: &[u8]) -> bool {
        let kept = KEPT.get().saturating_add(piece.len());
        if kept > MAX_KEPT {
            log::warn!("not looked at: more than 8 MiB of bodies at the same time");
            return false;
        }
        KEPT.set(kept);
        self.0.extend_from_slice(piece);
        true
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT.set(KEPT.get().saturating_sub(self.0.len()));
    }
}
