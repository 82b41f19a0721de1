//! The core's locks, atomics and queue: from std, or from loom for its models.

#[cfg(not(loom))]
pub use {
    crossbeam_queue::ArrayQueue,
    std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
    std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

#[cfg(loom)]
pub use {
    loom::sync::MutexGuard as RwLockReadGuard,
    loom::sync::MutexGuard as RwLockWriteGuard,
    loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
    loom::sync::{Mutex, MutexGuard},
    model::{ArrayQueue, RwLock},
};

#[cfg(loom)]
mod model {
    use super::{Mutex, MutexGuard};
    use std::collections::VecDeque;
    use std::sync::LockResult;

    /// A lock that readers don't share: a thread that holds loom's own can't wait for a mutex.
    #[derive(Default)]
    pub struct RwLock<T>(Mutex<T>);

    impl<T> RwLock<T> {
        pub fn read(&self) -> LockResult<MutexGuard<'_, T>> {
            self.0.lock()
        }

        pub fn write(&self) -> LockResult<MutexGuard<'_, T>> {
            self.0.lock()
        }
    }

    /// A bounded queue that loom can look into. Crossbeam tests its own; the models check the code
    /// around it.
    pub struct ArrayQueue<T> {
        items: Mutex<VecDeque<T>>,
        capacity: usize,
    }

    impl<T> ArrayQueue<T> {
        pub fn new(capacity: usize) -> Self {
            Self { items: Mutex::new(VecDeque::new()), capacity }
        }

        pub fn push(&self, value: T) -> Result<(), T> {
            let mut items = self.items.lock().unwrap();
            if items.len() == self.capacity {
                return Err(value);
            }
            items.push_back(value);
            Ok(())
        }

        pub fn pop(&self) -> Option<T> {
            self.items.lock().unwrap().pop_front()
        }

        pub fn len(&self) -> usize {
            self.items.lock().unwrap().len()
        }

        pub fn capacity(&self) -> usize {
            self.capacity
        }
    }
}
