//! Leases that V8's own memory serves.

use super::attachment::JsAttachment;
use super::backing_store;
use super::remote::place_of;
use crate::pool::{Pool, UnpooledKey};
use napi::JsValue;
use napi::bindgen_prelude::{ArrayBuffer, External};
use napi_derive::napi;
use std::sync::Arc;

/// Reports, where there is no witness, that JavaScript has lost the `ArrayBuffer` of a lease.
pub struct UnpooledGuard {
    pool: Arc<Pool>,
    key: UnpooledKey,
}

impl Drop for UnpooledGuard {
    fn drop(&mut self) {
        self.pool.unpooled().lose(self.key);
    }
}

/// Notes that V8 serves a lease with an `ArrayBuffer` of its own. Returns the guard that JavaScript
/// must keep with that, if it needs one.
#[napi]
pub fn note_unpooled(
    attachment: &External<JsAttachment>,
    array_buffer: ArrayBuffer<'_>,
) -> Option<External<UnpooledGuard>> {
    let (address, size) = place_of(&array_buffer);
    if size == 0 {
        return None;
    }
    // SAFETY: the value was converted in this call, and is attached: it is not empty.
    let witness = unsafe { backing_store::witness(array_buffer.raw()) };
    let is_watched = witness.is_some();
    let pool = attachment.pool();
    let key = pool.unpooled().insert(address, size, witness);
    (!is_watched).then(|| External::new(UnpooledGuard { pool: pool.clone(), key }))
}

/// Notes that the leasing thread releases such an `ArrayBuffer`; `detached`: it detaches it next.
#[napi]
pub fn release_unpooled(
    attachment: &External<JsAttachment>,
    array_buffer: ArrayBuffer<'_>,
    detached: bool,
) {
    let (address, size) = place_of(&array_buffer);
    attachment.pool().unpooled().release(address, size, detached);
}
