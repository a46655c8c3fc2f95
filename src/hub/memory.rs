//! The region that all processes share: its words, their layout, who may write them, and how a
//! change becomes visible as a whole.
//!
//! - `region`, `layout`: the memory as words, and the meaning of each word
//! - `atomic`: the atomic words, or those of loom
//! - `lock`, `holder`, `access`: the lock, its holds, and the words that only its holder writes
//! - `budget`: limits the work of one hold of the lock, or of one turn; `meter` counts it for tests
//! - `redo`: the redo log, which completes a transaction even if the process dies within it
//! - `alloc`, `linked_list`: blocks of memory, and lists of them

pub(super) mod access;
pub(super) mod alloc;
pub(super) mod atomic;
pub(super) mod budget;
pub(super) mod holder;
pub(super) mod layout;
pub(super) mod linked_list;
pub(super) mod lock;
#[cfg(any(test, fuzzing))]
pub(super) mod meter;
pub(super) mod redo;
pub(super) mod region;
