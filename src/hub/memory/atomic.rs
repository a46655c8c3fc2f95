//! The atomic words of the hub's memory. Under `cfg(loom)` they are those of loom, which tries the
//! orders of operations, and the outdated values, that the memory model allows (loom/README.md).

#[cfg(loom)]
pub use loom::sync::atomic::{fence, AtomicU64, Ordering};
#[cfg(not(loom))]
pub use std::sync::atomic::{fence, AtomicU64, Ordering};
