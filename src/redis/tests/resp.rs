//! The part of RESP3 that the fake Redis needs.

/// A reply or a push.
#[derive(Clone, Debug)]
pub enum Reply {
    Ok,
    Simple(&'static str),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    Nil,
    Array(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    Push(Vec<Reply>),
}

impl Reply {
    pub fn bulk(bytes: impl AsRef<[u8]>) -> Reply {
        Reply::Bulk(bytes.as_ref().to_vec())
    }

    pub fn error(text: &str) -> Reply {
        Reply::Error(text.to_owned())
    }

    /// Returns a list of strings.
    pub fn list<B: AsRef<[u8]>>(items: impl IntoIterator<Item = B>) -> Reply {
        Reply::Array(items.into_iter().map(Reply::bulk).collect())
    }

    /// Returns the bytes that a server sends.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut line = |text: String| out.extend_from_slice(format!("{text}\r\n").as_bytes());
        match self {
            Reply::Ok => line("+OK".to_owned()),
            Reply::Simple(text) => line(format!("+{text}")),
            Reply::Error(text) => line(format!("-{text}")),
            Reply::Int(number) => line(format!(":{number}")),
            Reply::Nil => line("_".to_owned()),
            Reply::Bulk(bytes) => {
                line(format!("${}", bytes.len()));
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Reply::Array(items) => {
                line(format!("*{}", items.len()));
                items.iter().for_each(|item| item.write(out));
            }
            Reply::Push(items) => {
                line(format!(">{}", items.len()));
                items.iter().for_each(|item| item.write(out));
            }
            Reply::Map(pairs) => {
                line(format!("%{}", pairs.len()));
                for (name, value) in pairs {
                    name.write(out);
                    value.write(out);
                }
            }
        }
    }
}

/// Removes a whole command from the beginning of `bytes`, if there is one, and returns its words.
pub fn take_command(bytes: &mut Vec<u8>) -> Option<Vec<Vec<u8>>> {
    let mut at = 0;
    let count = number(bytes, &mut at, b'*')?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let length = number(bytes, &mut at, b'$')?;
        words.push(bytes.get(at..at + length)?.to_vec());
        bytes.get(at + length..at + length + 2)?;
        at += length + 2;
    }
    bytes.drain(..at);
    Some(words)
}

fn number(bytes: &[u8], at: &mut usize, mark: u8) -> Option<usize> {
    let rest = bytes.get(*at..)?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    assert_eq!(rest[0], mark, "a command is a list of strings");
    *at += end + 2;
    std::str::from_utf8(&rest[1..end]).unwrap().parse().ok()
}
