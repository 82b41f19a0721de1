//! A piece of memory of one size class.

use super::size_class::SizeClass;
use super::supply;
use std::fmt;
use std::ptr::NonNull;

/// A block: memory with exactly one owner.
///
/// The type is the invariant. A block can be moved but not copied, so it has one owner: the depot,
/// the loan table (on behalf of one backing store), or the quarantine. Dropping it gives the memory
/// back.
///
/// A V8-backed block stands for memory that V8 owns, where the runtime allows no other. It is
/// counted, lent and freed like any block, but has no bytes here.
pub struct Block {
    /// `None` for a V8-backed one.
    address: Option<NonNull<u8>>,
    class: SizeClass,
}

// SAFETY: a block is plain memory with one owner; a thread that passes it on keeps no pointer to
// it.
unsafe impl Send for Block {}

impl Block {
    /// Gets a block of `class` with unspecified contents.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] if the operating system refuses.
    pub fn obtain(class: SizeClass) -> Result<Self, OutOfMemory> {
        match supply::obtain(class) {
            Some(address) => Ok(Self { address: Some(address), class }),
            None => Err(OutOfMemory { bytes: class.block_size() }),
        }
    }

    /// Makes a block of `class` without memory of its own.
    pub fn v8_backed(class: SizeClass) -> Self {
        Self { address: None, class }
    }

    /// Returns where the memory begins; `None` for a V8-backed block.
    pub fn address(&self) -> Option<NonNull<u8>> {
        self.address
    }

    /// Returns whether V8 has the memory, and not the pool.
    pub fn is_v8_backed(&self) -> bool {
        self.address.is_none()
    }

    /// Returns the address as a number; 0 for a V8-backed block.
    pub fn key(&self) -> usize {
        self.address.map_or(0, |address| address.addr().get())
    }

    /// Returns the class of the block, which never changes.
    pub fn class(&self) -> SizeClass {
        self.class
    }

    /// Returns its length, in bytes.
    pub fn size(&self) -> usize {
        self.class.block_size()
    }

    /// Overwrites it with zeros. JavaScript does that for a V8-backed one.
    pub fn scrub(&mut self) {
        if let Some(address) = self.address {
            // SAFETY: the block owns `size` bytes at `address`.
            unsafe { address.write_bytes(0, self.size()) };
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            // SAFETY: obtained with this class, and its only owner drops it.
            unsafe { supply::give_back(address, self.class) };
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "Block({} at {address:p})", self.class),
            None => write!(f, "Block({}, V8-backed)", self.class),
        }
    }
}

/// The operating system refused memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// The number of bytes requested.
    pub bytes: usize,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the operating system refused a block of {} bytes", self.bytes)
    }
}

impl std::error::Error for OutOfMemory {}
