//! In debug builds, a register of who owns each block; nothing in release builds.

/// Who may own a block. There is no fourth: a block without an owner has been freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Idle in the depot.
    Depot,
    /// With one backing store of V8's, wherever JavaScript has that.
    BackingStore,
    /// Set aside for good.
    Quarantine,
}

#[cfg(debug_assertions)]
mod register {
    use super::Owner;
    use crate::pool::block::Block;
    use std::collections::HashMap;
    use std::sync::{Mutex, PoisonError};

    /// Asserts that each block has exactly one owner at any time.
    #[derive(Default)]
    pub struct Census {
        owners: Mutex<HashMap<usize, Owner>>,
    }

    impl Census {
        /// `block` goes from one owner to another; `None` is the operating system.
        pub fn hand_over(&self, block: &Block, from: Option<Owner>, to: Option<Owner>) {
            let Some(address) = block.address() else { return };
            let address = address.addr().get();
            let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
            let was = match to {
                Some(owner) => owners.insert(address, owner),
                None => owners.remove(&address),
            };
            assert_eq!(was, from, "{block:?} goes to {to:?} from an owner who hasn't got it");
        }
    }
}

#[cfg(not(debug_assertions))]
mod register {
    use super::Owner;
    use crate::pool::block::Block;

    /// Only debug builds keep the register.
    #[derive(Default)]
    pub struct Census;

    impl Census {
        #[inline(always)]
        #[expect(clippy::unused_self, clippy::inline_always, reason = "empty in release builds")]
        pub fn hand_over(&self, _block: &Block, _from: Option<Owner>, _to: Option<Owner>) {}
    }
}

pub(super) use register::Census;
