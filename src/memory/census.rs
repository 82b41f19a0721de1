//! Who owns each block: asserted in debug builds, told to a memory checker in builds for one, and
//! nothing elsewhere.

use super::block::Block;
use crate::os::poison;
use register::Register;

/// Who may own a block. There is no fourth: a block without an owner has been freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Idle in the depot.
    Depot,
    /// With one backing store of V8's, wherever JavaScript has that.
    BackingStore,
    /// Set aside for who may still hold it.
    Quarantine,
}

/// Hears of every change of hands.
#[derive(Default)]
pub struct Census(Register);

impl Census {
    /// `block` goes from one owner to another; `None` is the operating system.
    #[inline]
    pub fn hand_over(&self, block: &Block, from: Option<Owner>, to: Option<Owner>) {
        self.0.hand_over(block, from, to);
        let Some(address) = block.address() else { return };
        match to {
            Some(Owner::Depot) => poison::close(address, block.size()),
            // Whoever may still hold what is set aside may read it.
            Some(Owner::BackingStore | Owner::Quarantine) => poison::open(address, block.size()),
            None => {}
        }
    }
}

#[cfg(debug_assertions)]
mod register {
    use super::Owner;
    use crate::memory::block::Block;
    use std::collections::HashMap;
    use std::sync::{Mutex, PoisonError};

    /// Asserts that each block has exactly one owner at any time.
    #[derive(Default)]
    pub struct Register {
        owners: Mutex<HashMap<usize, Owner>>,
    }

    impl Register {
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
    use crate::memory::block::Block;

    /// Only debug builds keep the register.
    #[derive(Default)]
    pub struct Register;

    impl Register {
        #[expect(clippy::unused_self, reason = "empty in release builds")]
        pub fn hand_over(&self, _block: &Block, _from: Option<Owner>, _to: Option<Owner>) {}
    }
}
