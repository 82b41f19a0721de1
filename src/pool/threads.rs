//! The threads that use a pool.

use super::stats::Totals;
use super::thread_counters::Column;
use super::thread_state::ThreadState;
use super::{Attachment, Pool};
use crate::sync::MutexGuard;
use std::sync::{Arc, PoisonError};

/// The threads that use the pool, and the counts of those that have left.
#[derive(Default)]
pub(super) struct Threads {
    pub(super) all: Vec<Arc<ThreadState>>,
    /// The counts of threads that have left, and whose blocks are all back.
    pub(super) retired: Option<Box<Totals>>,
    /// The highest sum of the peaks of threads attached at one time, in bytes.
    pub(super) peak_bytes: f64,
}

impl Threads {
    /// Adds up the counts of threads that won't change again, and drops these threads.
    pub(super) fn sweep(&mut self) {
        let Self { all, retired, peak_bytes } = self;
        let peaks = all.iter().map(|thread| thread.counters().read(Column::PeakBytes));
        // This does not use `sum`, which returns -0 for an empty iterator.
        *peak_bytes = peak_bytes.max(peaks.fold(0.0, |sum, peak| sum + peak));
        all.retain(|thread| {
            let is_final = thread.counters().is_final();
            if is_final {
                retired.get_or_insert_default().add(thread.counters());
            }
            !is_final
        });
    }
}

impl Pool {
    /// Attaches the calling thread to the pool.
    pub fn attach(self: &Arc<Self>) -> Attachment {
        let thread = Arc::new(ThreadState::new());
        let mut threads = self.threads();
        threads.sweep();
        threads.all.push(thread.clone());
        Attachment { pool: self.clone(), thread }
    }

    /// Asks the threads to give up `bytes` of their idle blocks.
    pub(super) fn ask(&self, bytes: usize) {
        self.threads().all.iter().for_each(|thread| thread.ask(bytes));
    }

    pub(super) fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
