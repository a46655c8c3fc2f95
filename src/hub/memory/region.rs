//! The hub's memory: a slice of words that several processes have mapped.
//!
//! All access is by whole atomic words, so if a process is killed, or reads while another writes,
//! it sees old or new words and never undefined behaviour. The meaning of the words is defined in
//! `layout`.

use crate::hub::memory::atomic::{fence, AtomicU64, Ordering};

/// The size of a word in bytes.
pub const WORD: usize = 8;

/// Shared memory as words, addressed by their index.
///
/// Reads and writes are `Relaxed`. If their order matters to other processes, the callers use
/// fences, and explain why.
#[derive(Clone)]
pub struct Region {
    words: &'static [AtomicU64],
    #[cfg(any(test, fuzzing))]
    fuse: std::sync::Arc<std::sync::atomic::AtomicI64>,
}

impl Region {
    /// Uses memory that is mapped shared.
    ///
    /// # Safety
    ///
    /// `start` must be 8-byte aligned, `len` bytes from it must be readable and writable for as
    /// long as the process lives, and no process may access them other than through a `Region`.
    #[cfg(not(loom))]
    #[allow(unsafe_code)]
    pub unsafe fn from_raw(start: *mut u8, len: usize) -> Region {
        // SAFETY: the caller's promise; AtomicU64 has the size and alignment of u64 and allows
        // writes behind a shared reference.
        let words = unsafe { std::slice::from_raw_parts(start.cast::<AtomicU64>(), len / WORD) };
        Region {
            words,
            #[cfg(any(test, fuzzing))]
            fuse: std::sync::Arc::new(std::sync::atomic::AtomicI64::new(i64::MAX)),
        }
    }

    /// Returns the size in words.
    pub fn size(&self) -> usize {
        self.words.len()
    }

    /// Returns the word at `at`. Panics if the index is outside the region.
    #[inline]
    pub fn get(&self, at: usize) -> u64 {
        #[cfg(any(test, fuzzing))]
        crate::hub::memory::meter::count(1);
        self.words[at].load(Ordering::Relaxed)
    }

    /// Writes the word at `at`.
    #[inline]
    pub fn set(&self, at: usize, value: u64) {
        #[cfg(any(test, fuzzing))]
        self.burn();
        #[cfg(any(test, fuzzing))]
        crate::hub::memory::meter::count(1);
        self.words[at].store(value, Ordering::Relaxed);
    }

    /// Writes the word at `at` after all earlier writes have become visible.
    #[inline]
    pub fn set_after(&self, at: usize, value: u64) {
        fence(Ordering::Release);
        self.set(at, value);
    }

    /// Returns the atomic word itself, for words that are changed without the lock.
    #[inline]
    pub fn word(&self, at: usize) -> &'static AtomicU64 {
        &self.words[at]
    }

    /// Returns `count` words from `at`, for objects that need an address, such as a mutex.
    pub fn words(&self, at: usize, count: usize) -> &'static [AtomicU64] {
        &self.words[at..at + count]
    }

    /// Copies `bytes` to the words from `at`. A partial last word is filled with zeros.
    pub fn write_bytes(&self, at: usize, bytes: &[u8]) {
        #[cfg(any(test, fuzzing))]
        crate::hub::memory::meter::count(bytes.len().div_ceil(WORD));
        for (word, value) in self.words[at..].iter().zip(words_of(bytes)) {
            #[cfg(any(test, fuzzing))]
            self.burn();
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Returns whether the words from `at` are what `write_bytes` makes of `bytes`.
    pub fn holds(&self, at: usize, bytes: &[u8]) -> bool {
        let pairs = self.words[at..].iter().zip(words_of(bytes));
        pairs.into_iter().all(|(word, value)| word.load(Ordering::Relaxed) == value)
    }

    /// Appends `len` bytes from the words at `at` to `out`.
    pub fn read_bytes(&self, at: usize, len: usize, out: &mut Vec<u8>) {
        #[cfg(any(test, fuzzing))]
        crate::hub::memory::meter::count(len.div_ceil(WORD));
        let full = len / WORD;
        for word in &self.words[at..at + full] {
            out.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        let rest = len % WORD;
        if rest > 0 {
            out.extend_from_slice(&self.get(at + full).to_le_bytes()[..rest]);
        }
    }
}

/// Iterates over bytes as words. A partial last word is filled with zeros.
fn words_of(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks(WORD).map(|chunk| {
        let mut full = [0; WORD];
        match chunk.try_into() {
            Ok(whole) => full = whole,
            Err(_) => full[..chunk.len()].copy_from_slice(chunk),
        }
        u64::from_le_bytes(full)
    })
}

#[cfg(loom)]
impl Region {
    /// Allocates zeroed words for one execution of a loom model.
    pub fn in_memory(bytes: usize) -> Region {
        let words: Vec<AtomicU64> = (0..bytes / WORD).map(|_| AtomicU64::new(0)).collect();
        Region { words: words.leak() }
    }
}

#[cfg(any(test, fuzzing))]
impl Region {
    /// Allocates zeroed memory of this process, for tests.
    #[cfg(test)]
    #[allow(unsafe_code)]
    pub fn in_memory(bytes: usize) -> Region {
        let words = vec![0u64; bytes / WORD].leak();
        // SAFETY: the words are aligned, never freed, and named by nobody else.
        unsafe { Region::from_raw(words.as_mut_ptr().cast(), bytes) }
    }

    /// Takes zeroed memory of this process, which the next run of a fuzz target uses again.
    #[cfg(fuzzing)]
    pub fn in_memory(bytes: usize) -> Region {
        let fuse = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(i64::MAX));
        Region { words: crate::hub::fuzz::memory::take(bytes / WORD), fuse }
    }

    /// Maps a file of `bytes` bytes that processes share, for tests.
    #[cfg(not(miri))]
    #[allow(unsafe_code)]
    pub fn from_file(file: &std::fs::File, bytes: usize) -> Region {
        use std::os::fd::AsRawFd;
        let (access, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else refers to it.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, shared, file.as_raw_fd(), 0) };
        assert_ne!(start, libc::MAP_FAILED);
        // SAFETY: mapped above to the file's length, page-aligned, never unmapped; every process
        // that maps the file does it here.
        unsafe { Region::from_raw(start.cast(), bytes) }
    }

    /// Returns a part of the region as a region of its own.
    pub fn part(&self, at: usize, bytes: usize) -> Region {
        let words = &self.words[at / WORD..(at + bytes) / WORD];
        Region { words, fuse: self.fuse.clone() }
    }

    /// Makes the writer die, by a panic, before its `stores`-th store from now.
    pub fn die_before(&self, stores: i64) {
        self.fuse.store(stores, Ordering::SeqCst);
    }

    /// Cancels `die_before`. Returns whether the writer was still alive.
    pub fn defuse(&self) -> bool {
        self.fuse.swap(i64::MAX, Ordering::SeqCst) >= 0
    }

    fn burn(&self) {
        let lit = self.fuse.load(Ordering::Relaxed) != i64::MAX;
        if lit && self.fuse.fetch_sub(1, Ordering::SeqCst) == 0 {
            // Not a `panic!`, because the hook would print each of thousands of deaths.
            std::panic::resume_unwind(Box::new(Died));
        }
    }
}

/// The payload of the panic of a writer that a test kills.
#[cfg(any(test, fuzzing))]
pub struct Died;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_compared_up_to_a_partial_word() {
        let region = Region::in_memory(64);
        region.write_bytes(1, b"0123456789");
        assert!(region.holds(1, b"0123456789") && region.holds(1, b"01234567"));
        for other in [&b"0123456788"[..], b"1123456789", b"012345678", b"0123456"] {
            assert!(!region.holds(1, other), "{other:?}");
        }
        let mut read = Vec::new();
        region.read_bytes(1, 10, &mut read);
        assert_eq!(read, b"0123456789");
    }
}
