//! The pattern matching of Redis (`stringmatchlen` in its util.c), written in the slow and obvious
//! way.

/// Redis' own algorithm, step by step, without its bound on the work.
pub fn reference(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    while p < pattern.len() && n < name.len() {
        match pattern[p] {
            b'*' => return (n..=name.len()).any(|at| reference(&pattern[p + 1..], &name[at..])),
            b'?' => n += 1,
            b'[' => {
                p += 1;
                let not = pattern.get(p) == Some(&b'^');
                p += usize::from(not);
                let mut found = false;
                loop {
                    if p + 1 < pattern.len() && pattern[p] == b'\\' {
                        p += 1;
                        found |= pattern[p] == name[n];
                    } else if pattern.get(p) == Some(&b']') {
                        break;
                    } else if p >= pattern.len() {
                        p -= 1;
                        break;
                    } else if p + 2 < pattern.len() && pattern[p + 1] == b'-' {
                        let (a, b) = (pattern[p], pattern[p + 2]);
                        found |= a.min(b) <= name[n] && name[n] <= a.max(b);
                        p += 2;
                    } else {
                        found |= pattern[p] == name[n];
                    }
                    p += 1;
                }
                if found == not {
                    return false;
                }
                n += 1;
            }
            other => {
                let escaped = other == b'\\' && p + 1 < pattern.len();
                p += usize::from(escaped);
                if pattern[p] != name[n] {
                    return false;
                }
                n += 1;
            }
        }
        p += 1;
    }
    n == name.len() && pattern[p..].iter().all(|&byte| byte == b'*')
}
