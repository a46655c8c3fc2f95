//! The region that all processes share, as words: what lies where in it, who may write, and how a change
//! becomes visible as a whole.
//!
//! - `region`, `layout`: the memory as words, and what lies where in it
//! - `lock`, `holder`, `access`: the lock, its holds, and the words that only its holder writes
//! - `redo`: the redo log: a change is applied as a whole even when the process dies within it
//! - `alloc`, `linked_list`: blocks of memory, and lists of them

pub(super) mod access;
pub(super) mod alloc;
pub(super) mod holder;
pub(super) mod layout;
pub(super) mod linked_list;
pub(super) mod lock;
pub(super) mod redo;
pub(super) mod region;
