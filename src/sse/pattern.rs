//! Patterns over channel names, with the meaning that Redis gives them in PSUBSCRIBE
//! (`stringmatchlen` in its util.c), so that one pattern means the same whoever matches it.
//!
//! Called for every new channel against every pattern that a client sent, so the work must stay
//! below a product of the two lengths whatever the pattern: there is no recursion here.

/// Whether `name` matches `pattern` as a whole, byte by byte, case counting.
///
/// `*` any bytes, also none; `?` one byte; `[ab]`, `[a-z]` one byte of a set, `[^ab]` one byte that
/// is not; `\x` the byte x. A set that is not closed ends with the pattern. Bytes in ranges compare
/// as unsigned.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    // Where to go on when the bytes after the last star do not match: only the last star needs
    // another try, because every other token takes exactly one byte.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            pattern = rest;
            star = Some((rest, name));
            continue;
        }
        let Some((&byte, after)) = name.split_first() else {
            return pattern.is_empty();
        };
        if let Some(rest) = one_byte(pattern, byte) {
            (pattern, name) = (rest, after);
            continue;
        }
        let Some((again, [_, later @ ..])) = star else {
            return false;
        };
        star = Some((again, later));
        (pattern, name) = (again, later);
    }
}

/// Matches the pattern's first token, which is not a star, with one byte. The rest of the pattern
/// if it fits.
fn one_byte(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', b'^', set @ ..] => set_without(set, byte),
        [b'[', set @ ..] => set_with(set, byte),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte).then_some(rest),
    }
}

fn set_with(set: &[u8], byte: u8) -> Option<&[u8]> {
    let (holds, rest) = scan_set(set, byte);
    holds.then_some(rest)
}

fn set_without(set: &[u8], byte: u8) -> Option<&[u8]> {
    let (holds, rest) = scan_set(set, byte);
    (!holds).then_some(rest)
}

/// Reads a set up to its `]`: whether it holds the byte, and the pattern behind it.
///
/// As in Redis, a range may have its ends in either order and may end at `]`, and an escaped byte
/// never begins a range.
fn scan_set(set: &[u8], byte: u8) -> (bool, &[u8]) {
    let mut set = set;
    let mut holds = false;
    loop {
        set = match set {
            [] => return (holds, set),
            [b'\\', literal, rest @ ..] => {
                holds |= *literal == byte;
                rest
            }
            [b']', rest @ ..] => return (holds, rest),
            [from, b'-', to, rest @ ..] => {
                holds |= (*from.min(to)..=*from.max(to)).contains(&byte);
                rest
            }
            [literal, rest @ ..] => {
                holds |= *literal == byte;
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Redis' own algorithm, turn for turn, without its bound on the work.
    fn reference(pattern: &[u8], name: &[u8]) -> bool {
        let (mut p, mut n) = (0, 0);
        while p < pattern.len() && n < name.len() {
            match pattern[p] {
                b'*' => {
                    return (n..=name.len()).any(|at| reference(&pattern[p + 1..], &name[at..]))
                }
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

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        for name in yes {
            assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for name in no {
            assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn stars_and_question_marks() {
        check("*", &["a", "news", "é"], &[]);
        check("news.*", &["news.", "news.a", "news.a.b"], &["news", "New.a", "xnews.a"]);
        check("*.a*b", &[".ab", "x.a.ab", "x.a..b"], &["ab", ".abc", ".a"]);
        check("h?llo", &["hello", "h?llo"], &["hllo", "heello"]);
        check("plain", &["plain"], &["Plain", "plai", "plainer", ""]);
    }

    #[test]
    fn sets_and_escapes() {
        check("[abc]x", &["ax", "cx"], &["dx", "x", "a"]);
        check("[a-c]", &["b"], &["d", "-"]);
        check("[c-a]", &["b"], &["d"]);
        check("[^a-c]", &["d"], &["b"]);
        check("[a\\-c]", &["a", "-", "c"], &["b"]);
        check("[\\]]", &["]"], &["\\", "a"]);
        check("\\*\\?\\[\\\\", &["*?[\\"], &["aaa\\"]);
    }

    #[test]
    fn the_odd_corners_are_those_of_redis() {
        check("[]a]", &[], &["a", "]", "]a]", "a]"]);
        check("[abc", &["a", "c"], &["d", "[abc"]);
        check("[^", &["a"], &["ab"]);
        check("[", &[], &["[", "a"]);
        check("[a-]", &["_", "]", "a"], &["-", "b"]);
        check("a\\", &["a\\"], &["a"]);
        check("[a\\", &["a", "\\"], &["b"]);
    }

    #[test]
    fn many_stars_do_not_take_long() {
        let pattern = "a*".repeat(120) + "b";
        let name = "a".repeat(255);
        let started = std::time::Instant::now();
        assert!(!matches(pattern.as_bytes(), name.as_bytes()));
        assert!(started.elapsed().as_secs() < 5);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn agrees_with_redis_own_algorithm(
            pattern in r"[ab*?\[\]^\\-]{0,9}",
            name in r"[abc\]\\^-]{1,7}",
        ) {
            let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(matches(pattern, name), reference(pattern, name));
        }
    }
}
