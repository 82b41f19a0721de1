//! A piece of memory of one size class.

use super::memory;
use super::size_class::SizeClass;
use std::fmt;
use std::ptr::NonNull;

/// A block: memory that exactly one owner holds.
///
/// The type is the invariant. A block can be moved but not copied, so whoever has it is its only
/// owner: the depot, a [`Loan`](super::Loan) (on behalf of one backing store), or nobody any
/// more, in which case dropping it gave the memory back, or the quarantine forgot it for good.
pub struct Block {
    address: NonNull<u8>,
    class: SizeClass,
}

// SAFETY: a block is plain memory with one owner; no thread that had it keeps a way to it.
unsafe impl Send for Block {}

impl Block {
    /// A block of `class` with unspecified contents.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] when there is none to be had.
    pub fn obtain(class: SizeClass) -> Result<Self, OutOfMemory> {
        match memory::obtain(class.block_size()) {
            Some(address) => Ok(Self { address, class }),
            None => Err(OutOfMemory { bytes: class.block_size() }),
        }
    }

    /// Where the memory begins.
    pub fn address(&self) -> NonNull<u8> {
        self.address
    }

    /// The class that the block belongs to for ever.
    pub fn class(&self) -> SizeClass {
        self.class
    }

    /// Its length, in bytes.
    pub fn size(&self) -> usize {
        self.class.block_size()
    }

    /// Overwrites all of it with zeros.
    pub fn scrub(&mut self) {
        // SAFETY: the block owns `size` bytes at `address`.
        unsafe { self.address.write_bytes(0, self.size()) };
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: obtained with this size, and its only owner is letting it go.
        unsafe { memory::give_back(self.address, self.size()) };
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} at {:p})", self.class, self.address)
    }
}

/// The operating system refused memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// How many bytes were asked for.
    pub bytes: usize,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the operating system refused a block of {} bytes", self.bytes)
    }
}

impl std::error::Error for OutOfMemory {}
