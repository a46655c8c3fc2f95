use super::*;
use crate::hub::MonotonicTime;

/// Returns how many events of this size are appended in one hold of the lock.
fn appended_together(count: usize, bytes: usize) -> usize {
    let data = vec![b'x'; bytes];
    let message = Message::Plain(data[..].into());
    let (order, mode) = (ChannelOrder::Unfollowed, DeliveryMode::Alone);
    let MessageAction::Append(checked) = classify(&message, order, mode, false) else {
        panic!("it is not appended");
    };
    let born = MonotonicTime::from_ms(0);
    let event = OrderedEvent::from_message(checked, b"a", &message, None, born);
    one_hold(&vec![event; count])
}

#[test]
fn a_hold_of_the_lock_appends_up_to_64_events_and_64_kib_but_at_least_one_event() {
    assert_eq!([63, 64, 65].map(|count| appended_together(count, 1)), [63, 64, 64]);
    assert_eq!([1_023, 1_024, 1_025].map(|bytes| appended_together(64, bytes)), [64, 64, 63]);
    assert_eq!([64 << 10, 65 << 10].map(|bytes| appended_together(2, bytes)), [1, 1]);
    assert_eq!(appended_together(1, 64 << 10), 1);
}
