//! A small EventSource: the HTML standard's interpretation of an event stream (9.2.6), written
//! independently of the code under test, in the slow and obvious way.

/// What a page would see.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dispatched {
    pub events: Vec<DispatchedEvent>,
    pub retry: Option<u64>,
    pub last_event_id: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DispatchedEvent {
    pub name: Vec<u8>,
    pub data: Vec<u8>,
    pub id: Vec<u8>,
}

/// Reads a stream up to where it was cut; an unfinished block is discarded.
pub fn read(stream: &[u8]) -> Dispatched {
    let stream = stream.strip_prefix("\u{feff}".as_bytes()).unwrap_or(stream);
    let mut lines = split_lines(stream);
    lines.pop();
    let mut seen = Dispatched::default();
    let (mut name, mut data, mut id) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        if line.is_empty() {
            seen.last_event_id.clone_from(&id);
            if data.pop().is_some() {
                let name = if name.is_empty() { b"message".to_vec() } else { name.clone() };
                seen.events.push(DispatchedEvent { name, data: data.clone(), id: id.clone() });
            }
            (name, data) = (Vec::new(), Vec::new());
            continue;
        }
        let colon = line.iter().position(|&byte| byte == b':');
        let field = &line[..colon.unwrap_or(line.len())];
        let value = colon.map_or(&b""[..], |at| &line[at + 1..]);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => name = value.to_vec(),
            b"data" => data.extend(value.iter().chain(b"\n")),
            b"id" if !value.contains(&0) => id = value.to_vec(),
            b"retry" if value.iter().all(u8::is_ascii_digit) => {
                seen.retry = String::from_utf8_lossy(value).parse().ok();
            }
            _ => {}
        }
    }
    seen
}

fn split_lines(stream: &[u8]) -> Vec<Vec<u8>> {
    let lf = with_lf_ends(stream);
    lf.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// Returns the data as a client receives it: every line end has become LF.
pub fn with_lf_ends(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, &byte) in data.iter().enumerate() {
        match byte {
            b'\n' if index > 0 && data[index - 1] == b'\r' => {}
            b'\r' => out.push(b'\n'),
            byte => out.push(byte),
        }
    }
    out
}
