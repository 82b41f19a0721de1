//! Follows the owner of each block: asserts it in debug builds, reports it to a memory checker in
//! builds for one, and does nothing elsewhere.

use super::block::Block;
use crate::os::poison;
use owners::Owners;

/// The owner of a block. A block without one has been freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Idle in the depot.
    Depot,
    /// One backing store of V8 has it, wherever JavaScript has that.
    BackingStore,
    /// In quarantine, because another thread may still hold it.
    Quarantine,
}

/// Follows every change of owner.
#[derive(Default)]
pub struct Census(Owners);

impl Census {
    /// Notes that `block` goes from one owner to another; `None` is the operating system.
    #[inline]
    pub fn hand_over(&self, block: &Block, from: Option<Owner>, to: Option<Owner>) {
        self.0.hand_over(block, from, to);
        let Some(address) = block.address() else { return };
        match to {
            Some(Owner::Depot) => poison::close(address, block.size()),
            // A thread that still holds a quarantined block may read it.
            Some(Owner::BackingStore | Owner::Quarantine) => poison::open(address, block.size()),
            None => {}
        }
    }
}

#[cfg(debug_assertions)]
mod owners {
    use super::Owner;
    use crate::memory::block::Block;
    use std::collections::HashMap;
    use std::sync::{Mutex, PoisonError};

    /// Asserts that each block has exactly one owner at any time.
    #[derive(Default)]
    pub struct Owners {
        all: Mutex<HashMap<usize, Owner>>,
    }

    impl Owners {
        pub fn hand_over(&self, block: &Block, from: Option<Owner>, to: Option<Owner>) {
            let Some(address) = block.address() else { return };
            let address = address.addr().get();
            let mut owners = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            let was = match to {
                Some(owner) => owners.insert(address, owner),
                None => owners.remove(&address),
            };
            assert_eq!(was, from, "{block:?} goes to {to:?} from an owner that does not have it");
        }
    }
}

#[cfg(not(debug_assertions))]
mod owners {
    use super::Owner;
    use crate::memory::block::Block;

    /// Only debug builds record the owners.
    #[derive(Default)]
    pub struct Owners;

    impl Owners {
        #[expect(clippy::unused_self, reason = "empty in release builds")]
        pub fn hand_over(&self, _block: &Block, _from: Option<Owner>, _to: Option<Owner>) {}
    }
}
