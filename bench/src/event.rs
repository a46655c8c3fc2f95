//! The data of a benchmark's event: its run, channel, lane, number, and the time at which it was
//! due. From these, every client can detect losses, duplicates, wrong order, and latency.

/// Length of a stamp in bytes; the rest of the event is padding.
pub const STAMP: usize = 51;

const MARK: &[u8] = b"b:";
const PADDING: u8 = b'.';

/// The identity of an event. Events of a lane are numbered without gaps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stamp {
    pub run: u32,
    pub channel: u32,
    pub lane: u16,
    pub number: u32,
    pub due: u64,
}

/// Appends an event's data of `size` bytes, at least [`STAMP`].
pub fn write(stamp: &Stamp, size: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(MARK);
    hex(stamp.run.into(), 8, out);
    hex(stamp.channel.into(), 8, out);
    hex(stamp.lane.into(), 4, out);
    hex(stamp.number.into(), 8, out);
    hex(stamp.due, 16, out);
    out.resize(start + size.max(STAMP), PADDING);
}

/// Parses the start of an event's data; `None` if it is not an event of a benchmark.
pub fn read(data: &[u8]) -> Option<Stamp> {
    let mut fields = Fields(data.strip_prefix(MARK)?);
    Some(Stamp {
        run: fields.take(8)? as u32,
        channel: fields.take(8)? as u32,
        lane: fields.take(4)? as u16,
        number: fields.take(8)? as u32,
        due: fields.take(16)?,
    })
}

fn hex(value: u64, digits: u32, out: &mut Vec<u8>) {
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(value >> (4 * place)) as usize & 15]);
    }
    out.push(b':');
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take(&mut self, digits: usize) -> Option<u64> {
        let (field, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest.strip_prefix(b":")?;
        field.iter().try_fold(0, |value, digit| Some(value << 4 | u64::from(digit_of(*digit)?)))
    }
}

fn digit_of(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let stamp = Stamp { run: 0xfeed_beef, channel: 999, lane: 15, number: 7, due: 1 << 60 };
        let mut data = Vec::new();
        write(&stamp, 64, &mut data);
        assert_eq!(data.len(), 64);
        assert_eq!(read(&data), Some(stamp));
        assert_eq!(read(&data[..STAMP]), Some(stamp));
    }

    #[test]
    fn other_data_is_not_ours() {
        for data in [&b""[..], b"b:", b"{}", b"b:00000000:00000000:0000:00000000:000000000000000g:"]
        {
            assert_eq!(read(data), None);
        }
    }
}
