//! Properties of the whole process.

use super::array_buffer;
use super::number::to_number;
use crate::pool::{first_node_options, memory_limit};
use napi::Env;
use napi_derive::napi;
use std::sync::OnceLock;

/// Returns how much memory the process may use, in bytes.
#[napi(js_name = "memoryLimit")]
pub fn memory_limit_in_bytes() -> f64 {
    to_number(memory_limit() as u64)
}

/// Returns whether Node was started to zero-fill all the memory that it hands out.
///
/// The flag holds for the process, while a worker's own arguments and environment may lack it.
#[napi]
pub fn asks_for_zero_fill() -> bool {
    let is_flag = |word: &str| word.replace('_', "-") == "--zero-fill-buffers";
    let is_asked = |options: &str| options.split([' ', '"']).any(is_flag);
    is_asked(&std::env::var("NODE_OPTIONS").unwrap_or_default())
        // JavaScript may have deleted the variable, so that child processes don't inherit it.
        || first_node_options().is_some_and(|options| is_asked(&options))
        || std::env::args_os().any(|word| word.to_str().is_some_and(is_flag))
}

/// Returns whether blocks are memory of our own: not where the runtime allows none, or where
/// `CISTERN_NO_EXTERNAL` is set. The answer is the same for the whole process.
#[napi]
pub fn is_external(env: Env) -> bool {
    static IS_EXTERNAL: OnceLock<bool> = OnceLock::new();
    *IS_EXTERNAL.get_or_init(|| {
        let is_off = |value: String| !matches!(value.as_str(), "" | "0" | "false");
        !std::env::var("CISTERN_NO_EXTERNAL").is_ok_and(is_off)
            && array_buffer::allows_external(env.raw())
    })
}
