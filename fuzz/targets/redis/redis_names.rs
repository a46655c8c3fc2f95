//! Channels become names in Redis and back, and no channel has a key or a name of another hub, of
//! the module itself, or of Redis.

use crate::fuzz::input::Input;
use crate::hub::Source;
use crate::redis::keys::{check_prefix, Keys};
use crate::sse::channel::check_publish;
use crate::sse::pattern::matches;

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let (prefix, one, other, pattern) =
        (input.piece(), input.piece(), input.piece(), input.piece());
    let Ok(prefix) = std::str::from_utf8(prefix) else { return };
    if check_prefix(prefix).is_err() {
        return;
    }
    let keys = Keys::new(prefix);
    let tag = if prefix.is_empty() { "sse" } else { prefix };
    for channel in [one, other].into_iter().filter(|channel| check_publish(channel).is_ok()) {
        let subject = keys.subject(channel);
        if keys.is_reserved(channel, Source::PubSub) {
            assert_eq!(keys.channel_of_subject(&subject), None);
        } else {
            assert_eq!(keys.channel_of_subject(&subject), Some(channel));
            assert_ne!(subject, keys.control());
        }
        // All keys are in one slot of a cluster.
        let own = [keys.clock(), keys.control(), keys.history(), keys.forgotten()];
        let of_channel = [keys.stream(channel), keys.key(channel, pattern)];
        for key in own.iter().chain(&of_channel) {
            let start = key.iter().position(|byte| *byte == b'{').unwrap();
            let end = start + key[start..].iter().position(|byte| *byte == b'}').unwrap();
            assert_eq!(&key[start + 1..end], tag.as_bytes());
        }
        for key in of_channel {
            assert!(!own.contains(&key));
            assert!(!keys.is_reserved(channel, Source::Streams) || subject.starts_with(b"sse:{"));
        }
        // A pattern reaches in Redis what it reaches here.
        let reached = matches(&keys.subject_pattern(pattern), &subject);
        assert!(prefix.len() + channel.len() > 255 || reached == matches(pattern, channel));
    }
    if one != other {
        assert_ne!(keys.stream(one), keys.stream(other));
        assert_ne!(keys.key(one, pattern), keys.key(other, pattern));
        assert_ne!(keys.key(pattern, one), keys.key(pattern, other));
        assert_ne!(keys.key(one, other), keys.key(other, one));
    }
}
