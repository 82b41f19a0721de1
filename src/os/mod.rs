//! The operating system: how much memory there may be, whether it runs short, and pages of it.

pub mod allocator;
pub mod memory_limit;
pub mod pages;
pub mod poison;
pub mod pressure;
pub mod process;
