//! Keys of streams and channels. A key of something that is gone finds nothing, even when another has its
//! place.

slotmap::new_key_type! {
    /// Names a stream of this process.
    pub struct StreamKey;

    /// Names a channel that this process has joined.
    pub struct ChannelKey;
}

impl StreamKey {
    /// As a number, for memory that C looks after.
    pub fn raw(self) -> u64 {
        slotmap::Key::data(&self).as_ffi()
    }

    /// From such a number. Any number is harmless: no stream is found by a wrong one.
    pub fn from_raw(raw: u64) -> StreamKey {
        slotmap::KeyData::from_ffi(raw).into()
    }
}
