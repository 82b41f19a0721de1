//! What the core shares between threads, from std, or from loom when it is model-checked.

#[cfg(not(loom))]
pub use {
    crossbeam_queue::ArrayQueue,
    std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
    std::sync::{Mutex, MutexGuard},
};

#[cfg(loom)]
pub use {
    loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
    loom::sync::{Mutex, MutexGuard},
    model::ArrayQueue,
};

#[cfg(loom)]
mod model {
    use super::Mutex;
    use std::collections::VecDeque;

    /// A bounded queue that loom can look into. crossbeam's own is tested by crossbeam; the
    /// models check what is built around it.
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
    }
}
