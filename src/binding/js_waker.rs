//! A thread's waker: a function of its JavaScript that any thread can have called.

use crate::pool::{PendingWake, Waker};
use napi::bindgen_prelude::Function;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Result, Status};
use std::sync::Arc;

/// Weak: it keeps no event loop alive.
type WeakFunction = ThreadsafeFunction<(), (), (), Status, false, true>;

/// Calls a function in its thread's next event-loop turn, once for all wakes until then.
pub struct JsWaker {
    function: WeakFunction,
    pending: Arc<PendingWake>,
}

impl JsWaker {
    /// Makes a waker that calls `on_wake`.
    ///
    /// # Errors
    ///
    /// Those of Node-API.
    pub fn new(on_wake: &Function<'_, (), ()>) -> Result<Self> {
        let pending = Arc::new(PendingWake::new());
        let wakes = pending.clone();
        let function =
            on_wake.build_threadsafe_function::<()>().weak::<true>().build_callback(move |_| {
                wakes.end();
                Ok(())
            })?;
        Ok(Self { function, pending })
    }
}

impl Waker for JsWaker {
    fn wake(&self) {
        if self.pending.start() {
            // A call into a thread that is ending does nothing, which `Waker` allows.
            self.function.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}
