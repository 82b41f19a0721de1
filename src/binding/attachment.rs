//! The functions of the addon, each on one thread's end of a pool.

use super::array_buffer;
use super::error::Code;
use crate::pool::{
    Attachment, Config, DEPOT_BYTES, Figures, Loan, MAX_BLOCK_SIZE, Pool, SEATS_PER_SEGMENT,
    SeatState, SizeClass, WORDS_PER_SEAT, Word,
};
use napi::bindgen_prelude::{ArrayBuffer, External, Unknown};
use napi::{Env, Error, JsValue};
use napi_derive::napi;
use std::sync::{Arc, OnceLock};

type Result<T> = std::result::Result<T, Error<Code>>;

/// The shape of a ledger, and the block sizes: what `lib/` must know to count and to
/// classify.
#[napi(object)]
pub struct Layout {
    /// The block size of each class, the smallest first, in bytes.
    pub block_sizes: Vec<u32>,
    /// The largest block, in bytes.
    pub max_block_size: u32,
    /// How many seats a segment has.
    pub seats_per_segment: u32,
    /// Words for each seat.
    pub words_per_seat: u32,
}

/// The layout that this build has.
#[napi]
pub fn layout() -> Layout {
    Layout {
        block_sizes: SizeClass::all().map(|class| narrow(class.block_size())).collect(),
        max_block_size: narrow(MAX_BLOCK_SIZE),
        seats_per_segment: narrow(SEATS_PER_SEGMENT),
        words_per_seat: narrow(WORDS_PER_SEAT),
    }
}

/// Makes a pool.
#[napi]
pub fn open(detach_on_release: bool, zero_on_release: bool) -> External<Attachment> {
    External::new(create_pool(detach_on_release, zero_on_release).attach())
}

/// The process's own pool with the default settings, made on first use.
#[napi]
pub fn open_shared() -> External<Attachment> {
    static SHARED: OnceLock<Arc<Pool>> = OnceLock::new();
    let pool = SHARED.get_or_init(|| create_pool(true, false));
    External::new(pool.attach())
}

fn create_pool(detach_on_release: bool, zero_on_release: bool) -> Arc<Pool> {
    Pool::new(Config { detach_on_release, zero_on_release, depot_bytes: DEPOT_BYTES })
}

/// Whether Node was started to hand out no memory that is not zero-filled. The flag holds for the
/// process; a worker's own arguments and environment need not have it.
#[napi]
pub fn asks_for_zero_fill() -> bool {
    let is_flag = |word: &str| word.replace('_', "-") == "--zero-fill-buffers";
    let options = std::env::var("NODE_OPTIONS").unwrap_or_default();
    options.split([' ', '"']).any(is_flag)
        || std::env::args_os().any(|word| word.to_str().is_some_and(is_flag))
}

/// The thread's counters, for a `Float64Array`.
#[napi]
pub fn words<'env>(env: &'env Env, attachment: &External<Attachment>) -> Result<Unknown<'env>> {
    let ledger = attachment.ledger();
    let words = ledger.words();
    // SAFETY: a ledger's words live as long as it does, and are atomics that anyone may write.
    let value = unsafe {
        array_buffer::share(env.raw(), ledger, words.as_ptr().cast(), size_of_val(words))
    }?;
    Ok(unknown(env, value))
}

/// The words of one segment of the thread's seats, for a `Float64Array`.
#[napi]
pub fn segment<'env>(
    env: &'env Env,
    attachment: &External<Attachment>,
    index: u32,
) -> Result<Unknown<'env>> {
    let ledger = attachment.ledger();
    let (words, length) = ledger
        .segment(index as usize)
        .ok_or_else(|| Error::new(Code::InvalidArgument, format!("no segment {index}")))?;
    // SAFETY: segments stay where they are as long as the ledger, and are atomics.
    let value = unsafe { array_buffer::share(env.raw(), ledger, words.cast(), length) }?;
    Ok(unknown(env, value))
}

/// An idle block of a class from the depot, as an `ArrayBuffer`; its seat is in the ledger's
/// [`Word::LastSeat`]. `null` where there is none.
///
/// One at a time, and not in an array: storing into one can run JavaScript that a user has put on
/// its prototype.
#[napi]
pub fn lend_idle<'env>(
    env: &'env Env,
    attachment: &External<Attachment>,
    class: u32,
) -> Result<Option<Unknown<'env>>> {
    attachment.lend_idle(size_class(class)?).map(|loan| lend(env, attachment, loan)).transpose()
}

/// The same with a block from the operating system. `null` where the pool is closed.
#[napi]
pub fn lend_fresh<'env>(
    env: &'env Env,
    attachment: &External<Attachment>,
    class: u32,
) -> Result<Option<Unknown<'env>>> {
    let class = size_class(class)?;
    if attachment.pool().is_closed() {
        return Ok(None);
    }
    lend(env, attachment, attachment.lend_fresh(class)?).map(Some)
}

fn lend<'env>(env: &'env Env, attachment: &Attachment, loan: Loan) -> Result<Unknown<'env>> {
    attachment.ledger().write(Word::LastSeat, loan.seat());
    Ok(unknown(env, array_buffer::lend(env.raw(), loan)?))
}

fn unknown(env: &Env, value: napi::sys::napi_value) -> Unknown<'_> {
    // SAFETY: `value` was made in this call, so it belongs to this environment.
    unsafe { Unknown::from_raw_unchecked(env.raw(), value) }
}

fn size_class(index: u32) -> Result<SizeClass> {
    SizeClass::from_index(index as usize)
        .ok_or_else(|| Error::new(Code::InvalidArgument, format!("no size class {index}")))
}

fn narrow(size: usize) -> u32 {
    u32::try_from(size).expect("no block, and no layout, is above 1 GiB")
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, which is what no limit means"
)]
fn to_bytes(number: f64) -> u64 {
    number as u64
}

#[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 bytes")]
fn to_number(bytes: u64) -> f64 {
    bytes as f64
}

/// Detaches the `ArrayBuffer` on `seat`, whose finalizer then brings the block back; `condemn`:
/// to be freed and not to be kept. Whether it could be detached; if not, nothing has changed.
#[napi]
pub fn detach(
    env: &Env,
    attachment: &External<Attachment>,
    array_buffer: ArrayBuffer<'_>,
    seat: u32,
    class: u32,
    condemn: bool,
) -> Result<bool> {
    let class = size_class(class)?;
    let ledger = attachment.ledger();
    if !ledger.has_seat(seat) {
        return Err(Error::new(Code::InvalidArgument, format!("no seat {seat}")));
    }
    // An empty one was transferred by someone: the block is not here to be detached.
    if array_buffer.is_empty() {
        return Ok(false);
    }
    // SAFETY: the value was converted in this call, so it belongs to this environment. `lib/` has
    // just moved the memory to it, or runs on Node 20, which knows no keys.
    if !unsafe { array_buffer::detach(env.raw(), array_buffer.raw()) } {
        return Ok(false);
    }
    if condemn {
        attachment.condemn(seat, class);
    } else {
        ledger.set_state(seat, SeatState::Detached);
    }
    Ok(true)
}

/// Detaches an `ArrayBuffer` that V8 owns, so that its memory goes at once. For Node 20 alone.
#[napi]
pub fn discard(env: &Env, array_buffer: ArrayBuffer<'_>) -> bool {
    // SAFETY: the value was converted in this call, so it belongs to this environment; Node 20
    // knows no keys.
    unsafe { array_buffer::detach(env.raw(), array_buffer.raw()) }
}

/// Frees idle blocks in the depot and on their way to it, until `bytes` are freed or none is left:
/// the bytes freed.
#[napi]
pub fn trim(attachment: &External<Attachment>, bytes: f64) -> f64 {
    to_number(attachment.pool().trim(to_bytes(bytes)))
}

/// Ends leasing, in all threads.
#[napi]
pub fn close(attachment: &External<Attachment>) {
    attachment.pool().close();
}

/// Whether some thread has closed the pool.
#[napi]
pub fn is_closed(attachment: &External<Attachment>) -> bool {
    attachment.pool().is_closed()
}

/// One class's figures, or all classes' together. See [`Figures`].
#[napi(object)]
pub struct JsFigures {
    pub in_use_count: f64,
    pub in_use_bytes: f64,
    pub idle_count: f64,
    pub idle_bytes: f64,
    pub alloc_count: f64,
    pub alloc_bytes: f64,
    pub fresh_count: f64,
    pub fresh_bytes: f64,
    pub hit_count: f64,
    pub miss_count: f64,
    pub release_count: f64,
    pub collected_count: f64,
    pub discard_count: f64,
    pub freed_bytes: f64,
    pub quarantined_bytes: f64,
}

/// The books as they stand. See [`Stats`](crate::pool::Stats).
#[napi(object)]
pub struct JsStats {
    pub total: JsFigures,
    pub peak_in_use_bytes: f64,
    pub unpooled_count: f64,
    /// The block sizes of the classes that have been used, in bytes, the smallest first.
    pub block_sizes: Vec<u32>,
    /// Their figures, in the same order.
    pub classes: Vec<JsFigures>,
}

/// A snapshot of the books, all threads together.
#[napi]
pub fn stats(attachment: &External<Attachment>) -> JsStats {
    let stats = attachment.pool().stats();
    let (sizes, classes): (Vec<_>, Vec<_>) = stats.classes.into_iter().unzip();
    JsStats {
        total: stats.total.into(),
        peak_in_use_bytes: stats.peak_in_use_bytes,
        unpooled_count: stats.unpooled_count,
        block_sizes: sizes.into_iter().map(|class| narrow(class.block_size())).collect(),
        classes: classes.into_iter().map(JsFigures::from).collect(),
    }
}

impl From<Figures> for JsFigures {
    fn from(figures: Figures) -> Self {
        Self {
            in_use_count: figures.in_use_count,
            in_use_bytes: figures.in_use_bytes,
            idle_count: figures.idle_count,
            idle_bytes: figures.idle_bytes,
            alloc_count: figures.alloc_count,
            alloc_bytes: figures.alloc_bytes,
            fresh_count: figures.fresh_count,
            fresh_bytes: figures.fresh_bytes,
            hit_count: figures.hit_count,
            miss_count: figures.miss_count,
            release_count: figures.release_count,
            collected_count: figures.collected_count,
            discard_count: figures.discard_count,
            freed_bytes: figures.freed_bytes,
            quarantined_bytes: figures.quarantined_bytes,
        }
    }
}
