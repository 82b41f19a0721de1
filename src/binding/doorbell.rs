//! A thread's bell: a function of its JavaScript that any thread can have called.

use crate::pool::{Bell, Ringing};
use napi::bindgen_prelude::Function;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Result, Status};
use std::sync::Arc;

/// Weak: it keeps no event loop alive.
type WeakFunction = ThreadsafeFunction<(), (), (), Status, false, true>;

/// Calls a function in its thread's next turn, however often it is rung until then.
pub struct Doorbell {
    function: WeakFunction,
    ringing: Arc<Ringing>,
}

impl Doorbell {
    /// A bell that calls `answer`.
    ///
    /// # Errors
    ///
    /// Those of Node-API.
    pub fn new(answer: &Function<'_, (), ()>) -> Result<Self> {
        let ringing = Arc::new(Ringing::new());
        let rings = ringing.clone();
        let function =
            answer.build_threadsafe_function::<()>().weak::<true>().build_callback(move |_| {
                rings.end();
                Ok(())
            })?;
        Ok(Self { function, ringing })
    }
}

impl Bell for Doorbell {
    fn ring(&self) {
        if self.ringing.start() {
            // A thread that is ending does not answer, which is what is promised.
            self.function.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}
