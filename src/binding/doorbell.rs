//! A thread's bell: a function of its JavaScript that any thread can have called.

use crate::pool::Bell;
use napi::bindgen_prelude::Function;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Result, Status};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Weak: it keeps no event loop alive.
type WeakFunction = ThreadsafeFunction<(), (), (), Status, false, true>;

/// Calls a function in its thread's next turn, however often it is rung until then.
pub struct Doorbell {
    function: WeakFunction,
    /// Whether a call is under way.
    is_ringing: Arc<AtomicBool>,
}

impl Doorbell {
    /// A bell that calls `answer`.
    ///
    /// # Errors
    ///
    /// Those of Node-API.
    pub fn new(answer: &Function<'_, (), ()>) -> Result<Self> {
        let is_ringing = Arc::new(AtomicBool::new(false));
        let rings = is_ringing.clone();
        let function =
            answer.build_threadsafe_function::<()>().weak::<true>().build_callback(move |_| {
                // Before JavaScript looks: what comes from here on rings again.
                rings.store(false, Ordering::SeqCst);
                Ok(())
            })?;
        Ok(Self { function, is_ringing })
    }
}

impl Bell for Doorbell {
    fn ring(&self) {
        if !self.is_ringing.swap(true, Ordering::SeqCst) {
            // A thread that is ending does not answer, which is what is promised.
            self.function.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}
