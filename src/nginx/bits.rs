//! Accessors of the bit fields of nginx's structures, at the offsets that the C compiler uses.
//!
//! build.rs measures the offsets (build/layout.rs), and generates assertions that C and the
//! bindings agree about the size of each structure and the offset of each other field that the
//! module uses. bindgen's own accessors of bit fields are not used, because they are wrong for
//! nginx 1.29.3 and later.

use std::mem::offset_of;

/// Defines the accessors of a bit field: the index of its 32-bit word in the structure, its lowest
/// bit, and its number of bits.
macro_rules! bits {
    ($structure:ident, $field:ident, $set:ident, $word:expr, $shift:expr, $width:expr) => {
        /// Returns the value of the field.
        ///
        /// # Safety
        /// `at` points to a valid structure.
        #[allow(dead_code)]
        #[inline]
        pub unsafe fn $field(at: *const nginx_sys::$structure) -> u32 {
            // SAFETY: the word is in the structure, as measured in C.
            let word = unsafe { at.cast::<u32>().add($word).read() };
            (word >> $shift) & (u32::MAX >> (32 - $width))
        }

        /// Sets the field. Bits of `value` that do not fit are ignored.
        ///
        /// # Safety
        /// `at` points to a valid structure, to which there is no other reference.
        #[allow(dead_code)]
        #[inline]
        pub unsafe fn $set(at: *mut nginx_sys::$structure, value: u32) {
            let mask = (u32::MAX >> (32 - $width)) << $shift;
            // SAFETY: the word is in the structure, as measured in C.
            unsafe {
                let word = at.cast::<u32>().add($word);
                word.write(word.read() & !mask | (value << $shift) & mask);
            }
        }
    };
}

include!(concat!(env!("OUT_DIR"), "/layout.rs"));
