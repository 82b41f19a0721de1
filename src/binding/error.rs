//! The errors of calls, with the `code` that JavaScript sees.

use crate::pool::{NoPool, OutOfMemory};
use napi::Error;

/// The `code` of an error from the addon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The operating system refused memory. Node's own code for it.
    OutOfMemory,
    /// Node-API refused to make an `ArrayBuffer`.
    Refused,
    /// The runtime allows no `ArrayBuffer` over memory that V8 did not allocate.
    NoExternal,
    /// `lib/` never passes such an argument.
    InvalidArgument,
    /// A handle that leads to no pool.
    InvalidHandle,
}

impl AsRef<str> for Code {
    fn as_ref(&self) -> &str {
        match self {
            Self::OutOfMemory => "ERR_MEMORY_ALLOCATION_FAILED",
            Self::Refused => "ERR_CISTERN_REFUSED",
            Self::NoExternal => "ERR_CISTERN_NO_EXTERNAL",
            Self::InvalidArgument => "ERR_INVALID_ARG_VALUE",
            Self::InvalidHandle => "ERR_CISTERN_INVALID_HANDLE",
        }
    }
}

impl From<OutOfMemory> for Error<Code> {
    fn from(error: OutOfMemory) -> Self {
        Self::new(Code::OutOfMemory, error.to_string())
    }
}

impl From<NoPool> for Error<Code> {
    fn from(reason: NoPool) -> Self {
        let reason = match reason {
            NoPool::Malformed => "it is no handle",
            NoPool::Foreign => {
                "it was made in another process, or by another copy of cistern in this one"
            }
            NoPool::Forged => "it was not made by cistern",
            NoPool::Stale => "its pool is gone: no thread has it any more",
        };
        Self::new(Code::InvalidHandle, reason.to_owned())
    }
}
