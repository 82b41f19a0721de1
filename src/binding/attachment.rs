//! One thread's end of a pool: how it comes about, and the memory that it shares with JavaScript.

use super::array_buffer::{self, Anchored, ExternalMemory};
use super::error::Code;
use super::js_waker::JsWaker;
use super::number::{narrow, to_bytes, to_number};
use super::settings::Settings;
use crate::pool::{
    Attachment, BlockState, COLUMNS_PER_ROW, HEAD_COLUMNS, Handle, IDLE_ALLOWANCE, MAX_BLOCK_SIZE,
    Pool, Reason, SEGMENT_SHIFT, SizeClass, memory_limit,
};
use napi::bindgen_prelude::{External, Function, Unknown};
use napi::{Env, Error};
use napi_derive::napi;
use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

pub type Result<T> = std::result::Result<T, Error<Code>>;

/// An attachment, as JavaScript holds it.
pub struct JsAttachment {
    attachment: Attachment,
    /// Where the runtime allows no view of the counters' own memory: the memory of V8's that it has.
    anchored: RefCell<Vec<Anchored>>,
    /// What V8 was told that the pool costs besides its blocks, in bytes.
    told: RefCell<ExternalMemory>,
    /// How often a block was lent.
    lent: Cell<u32>,
}

/// V8 is told each so many blocks.
const TELL_EACH: u32 = 512;

impl JsAttachment {
    fn new(env: Env, pool: &Arc<Pool>) -> External<Self> {
        let end = Self {
            attachment: pool.attach(),
            anchored: RefCell::default(),
            told: RefCell::new(ExternalMemory::new(env.raw())),
            lent: Cell::new(0),
        };
        end.tell_overhead();
        External::new(end)
    }

    /// Tells V8 this thread's part of what the pool costs besides its blocks, which it counts itself: so that dropped
    /// pools are found in time.
    pub fn tell_overhead(&self) {
        self.told.borrow_mut().set(self.overhead_bytes());
    }

    /// A block goes to JavaScript.
    pub fn note_lent(&self) {
        let lent = self.lent.get().wrapping_add(1);
        self.lent.set(lent);
        if lent.is_multiple_of(TELL_EACH) {
            self.tell_overhead();
        }
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
        // Before V8 has its memory back.
        self.counters().take_back_words();
    }
}

/// The shape of the counters, and the block sizes: what `lib/` must know to count and to
/// classify.
#[napi(object)]
pub struct Layout {
    /// The block size of each class, the smallest first, in bytes.
    pub block_sizes: Vec<u32>,
    /// The largest block, in bytes.
    pub max_block_size: u32,
    /// How far the number of its segment is shifted in the number of a row.
    pub segment_shift: u32,
    /// Words at the head of a segment, before those of its rows.
    pub head_columns: u32,
    /// Words for each row.
    pub columns_per_row: u32,
    /// How much may be idle however little was in use lately, in bytes.
    pub idle_allowance: u32,
}

/// The layout that this build has.
#[napi]
pub fn layout() -> Layout {
    Layout {
        block_sizes: SizeClass::all().map(|class| narrow(class.block_size())).collect(),
        max_block_size: narrow(MAX_BLOCK_SIZE),
        segment_shift: SEGMENT_SHIFT,
        head_columns: narrow(HEAD_COLUMNS),
        columns_per_row: narrow(COLUMNS_PER_ROW),
        idle_allowance: narrow(IDLE_ALLOWANCE),
    }
}

/// How much memory the process may use, in bytes.
#[napi(js_name = "memoryLimit")]
pub fn memory_limit_in_bytes() -> f64 {
    to_number(memory_limit() as u64)
}

/// Whether Node was started to hand out no memory that is not zero-filled. The flag holds for the
/// process; a worker's own arguments and environment need not have it.
#[napi]
pub fn asks_for_zero_fill() -> bool {
    let is_flag = |word: &str| word.replace('_', "-") == "--zero-fill-buffers";
    let is_asked = |options: &str| options.split([' ', '"']).any(is_flag);
    is_asked(&std::env::var("NODE_OPTIONS").unwrap_or_default())
        || first_options().is_some_and(|options| is_asked(&options))
        || std::env::args_os().any(|word| word.to_str().is_some_and(is_flag))
}

/// `NODE_OPTIONS` as the process was started with, where the system tells: JavaScript may have deleted
/// it since, so that other processes don't inherit it.
fn first_options() -> Option<String> {
    let environment = std::fs::read("/proc/self/environ").ok()?;
    let mut entries = environment.split(|byte| *byte == 0);
    let options = entries.find_map(|entry| entry.strip_prefix(b"NODE_OPTIONS="))?;
    Some(String::from_utf8_lossy(options).into_owned())
}

/// Whether blocks are memory of our own: not where the runtime allows none, or
/// `CISTERN_NO_EXTERNAL` is set. One answer for the process.
#[napi]
pub fn is_external(env: Env) -> bool {
    static IS_EXTERNAL: OnceLock<bool> = OnceLock::new();
    *IS_EXTERNAL.get_or_init(|| {
        let is_off = |value: String| !matches!(value.as_str(), "" | "0" | "false");
        !std::env::var("CISTERN_NO_EXTERNAL").is_ok_and(is_off)
            && array_buffer::allows_external(env.raw())
    })
}

/// Makes a pool.
#[napi]
pub fn open(env: Env, settings: Settings) -> External<JsAttachment> {
    JsAttachment::new(env, &Pool::new(settings.into_config(is_external(env))))
}

/// The process's own pool, made on first use with the settings that the first caller has.
#[napi]
pub fn open_shared(env: Env, settings: Settings) -> External<JsAttachment> {
    static SHARED: OnceLock<Arc<Pool>> = OnceLock::new();
    let external = is_external(env);
    JsAttachment::new(env, SHARED.get_or_init(|| Pool::new(settings.into_config(external))))
}

/// A new end of the pool that a handle names.
#[napi]
#[allow(clippy::needless_pass_by_value, reason = "napi converts to no other")]
pub fn attach(env: Env, key: String) -> Result<External<JsAttachment>> {
    Ok(JsAttachment::new(env, &Handle::from_text(&key)?.find()?))
}

/// The handle of a pool, in hexadecimal digits.
#[napi]
pub fn handle(end: &External<JsAttachment>) -> String {
    end.pool().handle().to_text()
}

/// The settings of a pool.
#[napi]
pub fn settings(end: &External<JsAttachment>) -> Settings {
    end.pool().config().into()
}

/// The thread's counters, for a `Float64Array`.
#[napi]
pub fn words<'env>(env: &'env Env, end: &External<JsAttachment>) -> Result<Unknown<'env>> {
    let (address, length, memory) = end.counters().words();
    let value = if end.pool().config().external {
        // SAFETY: the words live as long as their memory, and are atomics that anyone may write.
        unsafe { array_buffer::share(env.raw(), memory, address.cast(), length) }?
    } else {
        let (value, data, anchored) = array_buffer::anchor(env.raw(), length)?;
        end.anchored.borrow_mut().push(anchored);
        // SAFETY: it is as long, and anchored until the words are recalled, when the end is dropped.
        unsafe { end.counters().put_words(data.cast()) };
        value
    };
    Ok(unknown(env, value))
}

/// The words of one segment of the thread's rows, for a `Float64Array`.
#[napi]
pub fn segment<'env>(
    env: &'env Env,
    end: &External<JsAttachment>,
    index: u32,
) -> Result<Unknown<'env>> {
    let counters = end.counters();
    let (address, length, memory) = counters
        .segment(index as usize)
        .ok_or_else(|| Error::new(Code::InvalidArgument, format!("no segment {index}")))?;
    let value = if end.pool().config().external {
        // SAFETY: the words live as long as their memory, and are atomics that anyone may write.
        unsafe { array_buffer::share(env.raw(), memory, address.cast(), length) }?
    } else {
        let (value, data, anchored) = array_buffer::anchor(env.raw(), length)?;
        end.anchored.borrow_mut().push(anchored);
        // SAFETY: it is as long, and anchored until the words are recalled, when the end is dropped.
        unsafe { counters.put_segment(index as usize, data.cast()) };
        value
    };
    Ok(unknown(env, value))
}

/// Whether the segment of that number is still the one of that name: if not, JavaScript lets go of its words.
#[napi]
pub fn has_segment(end: &External<JsAttachment>, index: u32, name: u32) -> bool {
    end.counters().has_segment(index as usize, name)
}

/// Has `answer` called, in a turn of this thread, when there is something to look at.
#[napi]
pub fn listen(end: &External<JsAttachment>, answer: Function<'_, (), ()>) -> napi::Result<()> {
    end.thread().listen(Box::new(JsWaker::new(&answer)?));
    Ok(())
}

/// Notes whether this thread has something idle. Whether anybody will see to it.
#[napi]
pub fn set_idle(end: &External<JsAttachment>, has_idle: bool) -> bool {
    end.set_idle(has_idle)
}

/// How many idle bytes other threads ask this one to give up; asked once.
#[napi]
pub fn take_asked(end: &External<JsAttachment>) -> f64 {
    to_number(end.thread().take_asked() as u64)
}

/// How many idle bytes this thread shall free, because another called for it; told once.
#[napi]
pub fn take_trimmed(end: &External<JsAttachment>) -> f64 {
    to_number(end.thread().take_trimmed() as u64)
}

/// Whether this thread shall free all that it has idle; told once.
#[napi]
pub fn take_free_all(end: &External<JsAttachment>) -> bool {
    end.thread().take_free_all()
}

/// What this thread shall do at the end of an interval; told once. 0: the interval goes on; 1: say
/// whether anything is idle; 2: free what it did not need since the last tick, too; 3: the same,
/// because memory runs short.
#[napi]
pub fn take_tick(end: &External<JsAttachment>) -> u8 {
    end.tell_overhead();
    end.thread().take_tick()
}

/// The bytes that were freed without a call, because they were idle; told once.
#[napi]
pub fn take_freed_as_idle(end: &External<JsAttachment>) -> f64 {
    to_number(end.pool().take_untold(Reason::Idle) as u64)
}

/// The same, because memory runs short.
#[napi]
pub fn take_freed_under_pressure(end: &External<JsAttachment>) -> f64 {
    to_number(end.pool().take_untold(Reason::Pressure) as u64)
}

/// Which record of a call site belongs to the oldest lease that ended without a release in this thread
/// and was not told yet, below zero where another thread has released it; `null` where there is none.
#[napi]
pub fn next_report(end: &External<JsAttachment>) -> Option<f64> {
    let left = end.thread().next_report()?;
    Some(if left.state == BlockState::Sampled { left.sample } else { -left.sample })
}

/// Which one of this pool's call sites it is, from 1 up, whose leaks are told by a warning: in all threads, each once;
/// 0 where it was told before, or too many were.
#[napi]
#[allow(clippy::needless_pass_by_value, reason = "napi converts to no other")]
pub fn note_leak_site(end: &External<JsAttachment>, site: String) -> u32 {
    end.pool().note_leak_site(&site)
}

/// Frees idle blocks in the depot and on their way to it, until `bytes` are freed, or so many blocks of the
/// depot's, or none is left: the bytes freed.
#[napi]
pub fn trim(end: &External<JsAttachment>, bytes: f64, blocks: u32) -> f64 {
    let freed = end.pool().trim_some(to_bytes(bytes), blocks as usize);
    end.tell_overhead();
    to_number(freed)
}

/// Gives back what the pool costs besides its blocks, where they have gone.
#[napi]
pub fn shrink(end: &External<JsAttachment>) {
    end.pool().shrink();
    end.tell_overhead();
}

/// How many bytes are idle in the depot.
#[napi]
pub fn depot_bytes(end: &External<JsAttachment>) -> f64 {
    to_number(end.pool().depot_bytes() as u64)
}

/// Ends leasing, in all threads.
#[napi]
pub fn close(end: &External<JsAttachment>) {
    end.pool().close();
}

/// Whether some thread has closed the pool.
#[napi]
pub fn is_closed(end: &External<JsAttachment>) -> bool {
    end.pool().is_closed()
}

/// A value of this call, to be returned.
pub fn unknown(env: &Env, value: napi::sys::napi_value) -> Unknown<'_> {
    // SAFETY: `value` was made in this call, so it belongs to this environment.
    unsafe { Unknown::from_raw_unchecked(env.raw(), value) }
}

/// The class at an index.
pub fn size_class(index: u32) -> Result<SizeClass> {
    SizeClass::from_index(index as usize)
        .ok_or_else(|| Error::new(Code::InvalidArgument, format!("no size class {index}")))
}
