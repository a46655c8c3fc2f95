//! The bit fields of nginx's structures, read and written at the places where C has them.
//!
//! build.rs measures the places (build/layout.rs) and checks that C and the bindings agree about the size of
//! each structure and the place of each plain field that is used here; where they do not, the build ends.
//! bindgen's own accessors of bit fields are not used: they are wrong for nginx 1.29.3 and later.

use std::mem::offset_of;

/// Defines how a bit field is read and written: the word of 32 bits in its structure, the lowest bit, and
/// how many there are.
macro_rules! bits {
    ($structure:ident, $field:ident, $set:ident, $word:expr, $shift:expr, $width:expr) => {
        /// Reads the field.
        ///
        /// # Safety
        /// `at` points to a structure that is alive.
        #[allow(dead_code)]
        #[inline]
        pub unsafe fn $field(at: *const nginx_sys::$structure) -> u32 {
            // SAFETY: the word lies in the structure, as C has measured it.
            let word = unsafe { at.cast::<u32>().add($word).read() };
            (word >> $shift) & (u32::MAX >> (32 - $width))
        }

        /// Writes the field. Bits of `value` that it does not have are ignored.
        ///
        /// # Safety
        /// As for reading it.
        #[allow(dead_code)]
        #[inline]
        pub unsafe fn $set(at: *mut nginx_sys::$structure, value: u32) {
            let mask = (u32::MAX >> (32 - $width)) << $shift;
            // SAFETY: as for reading it.
            unsafe {
                let word = at.cast::<u32>().add($word);
                word.write(word.read() & !mask | (value << $shift) & mask);
            }
        }
    };
}

include!(concat!(env!("OUT_DIR"), "/layout.rs"));
