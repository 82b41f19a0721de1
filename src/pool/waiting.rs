//! The pool's side of the queue of waiters, and the ceiling that makes them wait.

use super::{Pool, Refusal};
use crate::memory::size_class::SizeClass;

impl Pool {
    /// Returns whether nobody waits for a block.
    pub fn nobody_waits(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Returns whether a block of `class` fits under the ceiling at all, with everything else
    /// freed.
    pub fn can_ever_hold(&self, class: SizeClass) -> bool {
        class.block_size() <= self.holdable_bytes()
    }

    /// Returns how many bytes fit under the ceiling beside those that never leave quarantine.
    pub fn holdable_bytes(&self) -> usize {
        self.budget.limit().saturating_sub(self.quarantine.sealed_bytes())
    }

    /// Serves the waiters in their order, as far as there is memory.
    pub(super) fn serve(&self) {
        if self.waiters.is_empty() {
            return;
        }
        let waiting = self.waiters.serve(|class| match self.find(class) {
            Err(Refusal::Exhausted(_)) if self.can_ever_hold(class) => None,
            outcome => Some(outcome),
        });
        if let Some(class) = waiting {
            self.ask(self.budget.shortage(class.block_size()).max(class.block_size()));
        }
    }
}
