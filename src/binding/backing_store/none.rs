//! For platforms where V8's view of a backing store is not known.

use crate::pool::Witness;
use napi::sys;

/// Returns no witness.
pub unsafe fn witness(_array_buffer: sys::napi_value) -> Option<Box<dyn Witness>> {
    None
}

/// Never exists: memory can't be moved here.
pub enum Held {}

impl Held {
    pub fn is_possible() -> bool {
        false
    }

    pub unsafe fn by(_array_buffer: sys::napi_value) -> Option<Self> {
        None
    }

    pub fn into_array_buffer(self) -> sys::napi_value {
        match self {}
    }
}
