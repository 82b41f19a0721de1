//! Converts between JavaScript's numbers and ours.

/// Converts a number of bytes. It saturates, so that `Infinity` is a limit, too.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
pub fn to_bytes(number: f64) -> u64 {
    number as u64
}

/// Converts a number of bytes to a size in memory.
pub fn to_size(number: f64) -> usize {
    usize::try_from(to_bytes(number)).unwrap_or(usize::MAX)
}

/// Converts a number of bytes, or a count, to JavaScript's number.
#[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 bytes")]
pub fn to_number(bytes: u64) -> f64 {
    bytes as f64
}

/// Converts a size that is known to fit.
///
/// # Panics
///
/// Above 4 GiB.
pub fn narrow(size: usize) -> u32 {
    u32::try_from(size).expect("no block, and no layout, is above 1 GiB")
}
