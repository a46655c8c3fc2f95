//! Keys of streams and channels. The key of something that no longer exists finds nothing, even if
//! its slot has been reused.

slotmap::new_key_type! {
    /// The key of a stream of this process.
    pub struct StreamKey;

    /// The key of a channel that this process has joined.
    pub struct ChannelKey;
}

impl StreamKey {
    /// Returns the key as a number, for storage in C structures.
    pub fn raw(self) -> u64 {
        slotmap::Key::data(&self).as_ffi()
    }

    /// Returns the key for a number. Every number is safe: a wrong one finds no stream.
    pub fn from_raw(raw: u64) -> StreamKey {
        slotmap::KeyData::from_ffi(raw).into()
    }
}
