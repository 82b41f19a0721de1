//! JavaScript's numbers and ours.

/// A number of bytes, saturated: so that no limit is a limit, too.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
pub fn to_bytes(number: f64) -> u64 {
    number as u64
}

/// The same as a size in memory.
pub fn to_size(number: f64) -> usize {
    usize::try_from(to_bytes(number)).unwrap_or(usize::MAX)
}

/// A number of bytes, or a count, as JavaScript has it.
#[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 bytes")]
pub fn to_number(bytes: u64) -> f64 {
    bytes as f64
}

/// A size that is known to fit.
pub fn narrow(size: usize) -> u32 {
    u32::try_from(size).expect("no block, and no layout, is above 1 GiB")
}
