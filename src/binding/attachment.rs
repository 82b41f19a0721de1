//! One thread's attachment to a pool, as JavaScript holds it.

use super::error::Code;
use super::external_memory::ExternalMemory;
use super::process::is_external;
use super::settings::Settings;
use super::shared_words::Anchored;
use crate::pool::{Attachment, Handle, Pool, SizeClass};
use napi::bindgen_prelude::{External, Unknown};
use napi::{Env, Error};
use napi_derive::napi;
use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

pub type Result<T> = std::result::Result<T, Error<Code>>;

/// An attachment, with the memory that V8 has or counts for it.
pub struct JsAttachment {
    attachment: Attachment,
    /// V8's memory with the counters' words, if the runtime allows no view of ours.
    anchored: RefCell<Vec<Anchored>>,
    /// The overhead that V8 counts for this thread.
    overhead: RefCell<ExternalMemory>,
    /// The number of blocks lent so far.
    lent: Cell<u32>,
}

/// The number of lent blocks after which V8 learns the overhead.
const OVERHEAD_EACH: u32 = 512;

impl JsAttachment {
    fn new(env: Env, pool: &Arc<Pool>) -> External<Self> {
        let attachment = Self {
            attachment: pool.attach(),
            anchored: RefCell::default(),
            overhead: RefCell::new(ExternalMemory::new(env.raw())),
            lent: Cell::new(0),
        };
        attachment.report_overhead();
        External::new(attachment)
    }

    /// Reports this thread's part of the pool's overhead to V8, so that V8 collects dropped pools
    /// in time. V8 counts the blocks itself.
    pub fn report_overhead(&self) {
        self.overhead.borrow_mut().set(self.overhead_bytes());
    }

    /// Notes that a block goes to JavaScript.
    pub fn note_lent(&self) {
        let lent = self.lent.get().wrapping_add(1);
        self.lent.set(lent);
        if lent.is_multiple_of(OVERHEAD_EACH) {
            self.report_overhead();
        }
    }

    /// Keeps memory of V8's in place until the attachment is dropped.
    pub fn anchor(&self, memory: Anchored) {
        self.anchored.borrow_mut().push(memory);
    }
}

impl Deref for JsAttachment {
    type Target = Attachment;

    fn deref(&self) -> &Attachment {
        &self.attachment
    }
}

impl Drop for JsAttachment {
    fn drop(&mut self) {
        // The counters take their words back before V8 may free that memory.
        self.counters().take_back_words();
    }
}

/// Creates a pool, and attaches this thread to it.
#[napi]
pub fn open(env: Env, settings: Settings) -> External<JsAttachment> {
    JsAttachment::new(env, &Pool::new(settings.into_config(is_external(env))))
}

/// Attaches this thread to the process's shared pool. The first caller's settings make the pool.
#[napi]
pub fn open_shared(env: Env, settings: Settings) -> External<JsAttachment> {
    static SHARED: OnceLock<Arc<Pool>> = OnceLock::new();
    let external = is_external(env);
    JsAttachment::new(env, SHARED.get_or_init(|| Pool::new(settings.into_config(external))))
}

/// Attaches this thread to the pool that a handle names.
#[napi]
#[allow(clippy::needless_pass_by_value, reason = "napi converts to no other")]
pub fn attach(env: Env, key: String) -> Result<External<JsAttachment>> {
    Ok(JsAttachment::new(env, &Handle::from_text(&key)?.find()?))
}

/// Returns the pool's handle, in hexadecimal digits.
#[napi]
pub fn handle(attachment: &External<JsAttachment>) -> String {
    attachment.pool().handle().to_text()
}

/// Returns the pool's settings.
#[napi]
pub fn settings(attachment: &External<JsAttachment>) -> Settings {
    attachment.pool().config().into()
}

/// Ends leasing, in all threads.
#[napi]
pub fn close(attachment: &External<JsAttachment>) {
    attachment.pool().close();
}

/// Returns whether some thread has closed the pool.
#[napi]
pub fn is_closed(attachment: &External<JsAttachment>) -> bool {
    attachment.pool().is_closed()
}

/// Wraps a value that this call made, to be returned.
pub fn unknown(env: &Env, value: napi::sys::napi_value) -> Unknown<'_> {
    // SAFETY: `value` was made in this call, so it belongs to this environment.
    unsafe { Unknown::from_raw_unchecked(env.raw(), value) }
}

/// Returns the class at an index.
pub fn size_class(index: u32) -> Result<SizeClass> {
    SizeClass::from_index(index as usize)
        .ok_or_else(|| Error::new(Code::InvalidArgument, format!("no size class {index}")))
}
