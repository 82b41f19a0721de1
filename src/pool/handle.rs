//! Shares a pool of one thread with another.

use super::Pool;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// Names a pool of this process. It keeps no pool alive and contains no address: the registry looks
/// the pool up.
///
/// ```text
///   process, 8 bytes │ pool, 8 bytes │ proof, 8 bytes        little-endian
/// ```
///
/// The proof is a keyed hash of the pool's number, by the standard library's `RandomState`; the
/// process is one of a constant. No other process has the keys. So a handle of ours differs from a
/// forged one and from another process's, even after its pool has gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle {
    process: u64,
    pool: u64,
    proof: u64,
}

/// The reason why a handle leads to no pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPool {
    /// It has another length than a handle.
    Malformed,
    /// It was made in another process.
    Foreign,
    /// Cistern did not make it.
    Forged,
    /// Its pool is gone: nobody uses it any more.
    Stale,
}

impl Handle {
    /// The length of a handle, in bytes.
    pub const BYTES: usize = 24;

    /// Makes a handle for a pool that has none yet.
    fn issue() -> Self {
        let mut issued = registry();
        issued.last += 1;
        Self { process: process(), pool: issued.last, proof: proof(issued.last) }
    }

    /// Converts the handle to bytes, to be sent.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let words = [self.process, self.pool, self.proof].map(u64::to_le_bytes);
        std::array::from_fn(|i| words[i / 8][i % 8])
    }

    /// Parses any bytes.
    ///
    /// # Errors
    ///
    /// [`NoPool::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NoPool> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().map_err(|_| NoPool::Malformed)?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Ok(Self { process: word(0), pool: word(8), proof: word(16) })
    }

    /// Converts the handle to hexadecimal digits.
    pub fn to_text(self) -> String {
        let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
        self.to_bytes().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    /// Parses any text.
    ///
    /// # Errors
    ///
    /// [`NoPool::Malformed`].
    pub fn from_text(text: &str) -> Result<Self, NoPool> {
        let mut bytes = [0; Self::BYTES];
        let mut digits = text.chars();
        for byte in &mut bytes {
            for _ in 0..2 {
                let digit = digits.next().and_then(|digit| digit.to_digit(16));
                let digit = digit.and_then(|digit| u8::try_from(digit).ok());
                *byte = *byte << 4 | digit.ok_or(NoPool::Malformed)?;
            }
        }
        if digits.next().is_some() { Err(NoPool::Malformed) } else { Self::from_bytes(&bytes) }
    }

    /// Looks up the pool that it names.
    ///
    /// # Errors
    ///
    /// Any [`NoPool`] except `Malformed`.
    pub fn find(self) -> Result<Arc<Pool>, NoPool> {
        if self.process != process() {
            return Err(NoPool::Foreign);
        }
        if self.proof != proof(self.pool) {
            return Err(NoPool::Forged);
        }
        registry().pools.get(&self.pool).and_then(Weak::upgrade).ok_or(NoPool::Stale)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.pool)
    }
}

/// A pool's own handle, made on first use. The registry forgets the pool when this is dropped.
#[derive(Default)]
pub struct OwnHandle(OnceLock<Handle>);

impl OwnHandle {
    /// Returns the handle of `pool`, which owns this.
    pub fn get(&self, pool: &Arc<Pool>) -> Handle {
        *self.0.get_or_init(|| {
            let handle = Handle::issue();
            registry().pools.insert(handle.pool, Arc::downgrade(pool));
            handle
        })
    }
}

impl Drop for OwnHandle {
    fn drop(&mut self) {
        if let Some(handle) = self.0.get() {
            registry().pools.remove(&handle.pool);
        }
    }
}

/// The pools of the process that have a handle.
#[derive(Default)]
struct Registry {
    last: u64,
    pools: HashMap<u64, Weak<Pool>>,
}

fn registry() -> MutexGuard<'static, Registry> {
    static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

fn process() -> u64 {
    secret().hash_one("process")
}

fn proof(pool: u64) -> u64 {
    secret().hash_one(pool)
}

fn secret() -> &'static RandomState {
    static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    &SECRET
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::pool::Config;

    fn find(bytes: &[u8]) -> Result<Arc<Pool>, NoPool> {
        Handle::from_bytes(bytes)?.find()
    }

    #[test]
    fn leads_to_its_pool() {
        let (pool, other) = (Pool::new(Config::default()), Pool::new(Config::default()));
        let found = find(&pool.handle().to_bytes()).expect("the pool is there");
        assert!(Arc::ptr_eq(&found, &pool));
        assert_eq!(pool.handle(), pool.handle());
        assert_ne!(pool.handle(), other.handle());
    }

    #[test]
    fn any_other_bytes_lead_to_none() {
        let pool = Pool::new(Config::default());
        let bytes = pool.handle().to_bytes();
        for at in 0..Handle::BYTES {
            let mut forged = bytes;
            forged[at] ^= 1;
            let expected = if at < 8 { NoPool::Foreign } else { NoPool::Forged };
            assert_eq!(find(&forged).err(), Some(expected), "byte {at}");
        }
        for wrong in [&bytes[..23], &[], &[bytes.as_slice(), &[0]].concat()] {
            assert_eq!(find(wrong).err(), Some(NoPool::Malformed));
        }
    }

    #[test]
    fn as_text() {
        let pool = Pool::new(Config::default());
        let text = pool.handle().to_text();
        assert_eq!(text.len(), 2 * Handle::BYTES);
        assert_eq!(Handle::from_text(&text), Ok(pool.handle()));
        assert_eq!(Handle::from_text(&text.to_uppercase()), Ok(pool.handle()));
        for wrong in ["", &text[1..], &format!("{text}0"), &format!("{}g", &text[1..])] {
            assert_eq!(Handle::from_text(wrong), Err(NoPool::Malformed), "{wrong}");
        }
    }

    #[test]
    fn is_stale_when_the_pool_is_gone() {
        let pool = Pool::new(Config::default());
        let handle = pool.handle();
        drop(pool);
        assert_eq!(handle.find().err(), Some(NoPool::Stale));
    }
}
