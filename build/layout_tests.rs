//! Checks that build/layout.txt lists all fields of nginx's structures that src/nginx uses, and
//! that bit fields are accessed only at the measured offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Fields = BTreeMap<String, BTreeSet<String>>;

/// Returns the table: ordinary fields, and bit fields.
fn table() -> (Fields, Fields) {
    let (mut plain, mut bits) = (Fields::new(), Fields::new());
    for line in include_str!("layout.txt").lines() {
        let Some((name, fields)) = line.split_once(':').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let (some, others) = fields.split_once('|').unwrap();
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        plain.insert(name.to_owned(), words(some));
        bits.insert(name.to_owned(), words(others));
    }
    (plain, bits)
}

/// Collects the files with an extension in a directory and its subdirectories.
fn files(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

/// Returns the sources in src/nginx, without comments.
fn sources() -> String {
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/nginx"), "rs", &mut found);
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap();
    let all: String = found.iter().map(read).collect();
    all.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .fold(String::new(), |text, line| text + line + "\n")
}

/// Returns the identifiers in a text and their offsets.
fn identifiers(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + text[rest..].find(is_word)?;
        let end = text[start..].find(|c| !is_word(c)).map_or(text.len(), |len| start + len);
        rest = end;
        Some((start, &text[start..end]))
    })
}

/// Returns the names after a dot: fields, and methods.
fn accessed(sources: &str) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let (mut fields, mut methods) = (BTreeSet::new(), BTreeSet::new());
    for (at, name) in identifiers(sources) {
        if sources[..at].trim_end().ends_with('.') {
            let called = sources[at + name.len()..].starts_with(['(', ':']);
            if called { &mut methods } else { &mut fields }.insert(name);
        }
    }
    (fields, methods)
}

/// Returns the fields of each structure in nginx's headers: the ordinary ones, and the bit fields.
fn defined() -> (Fields, Fields) {
    let mut found = Vec::new();
    for directory in std::env::split_paths(env!("NGX_INCLUDE")).filter(|path| path.is_dir()) {
        files(&directory, "h", &mut found);
    }
    let (mut plain, mut bits) = (Fields::new(), Fields::new());
    for path in found.iter().filter(|path| is_nginx_header(path)) {
        let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        structures(&without_comments(&text), &mut plain, &mut bits);
    }
    (plain, bits)
}

fn is_nginx_header(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ngx_"))
}

fn without_comments(text: &str) -> String {
    let mut out = String::new();
    for (number, part) in text.split("/*").enumerate() {
        out.push_str(if number == 0 {
            part
        } else {
            part.split_once("*/").map_or("", |both| both.1)
        });
    }
    let lines = out.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

/// Adds the fields of `struct ngx_x_s { … };` and `typedef struct { … } ngx_x_t;`, without nested
/// ones.
fn structures(text: &str, plain: &mut Fields, bits: &mut Fields) {
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        let head = before.rsplit([';', '}']).next().unwrap_or_default().trim();
        let Some(end) = closing(behind) else { return };
        let (body, after) = (&behind[..end], &behind[end + 1..]);
        let tag = head.rsplit_once("struct").map(|(_, tag)| tag.trim());
        let name = match tag {
            Some("") => after.split(';').next().map(|name| name.trim().to_owned()),
            Some(tag) => tag.strip_suffix("_s").map(|name| format!("{name}_t")),
            None => None,
        };
        if let Some(name) = name {
            let (plain, bits) =
                (plain.entry(name.clone()).or_default(), bits.entry(name).or_default());
            body.split(';').for_each(|field| enter(field, plain, bits));
        }
        rest = after;
    }
}

/// Returns the offset of the closing brace.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    text.char_indices().find_map(|(at, c)| {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
        None
    })
}

fn enter(field: &str, plain: &mut BTreeSet<String>, bits: &mut BTreeSet<String>) {
    let field = field.split('[').next().unwrap_or_default();
    let words: Vec<_> = identifiers(field).map(|(_, word)| word.to_owned()).collect();
    if let Some((before, width)) = field.rsplit_once(':') {
        if width.trim().parse::<u32>().is_ok() {
            bits.extend(identifiers(before).last().map(|(_, word)| word.to_owned()));
            return;
        }
    }
    let pointer = field.split_once("(*").and_then(|(_, behind)| identifiers(behind).next());
    match pointer {
        Some((_, name)) => plain.insert(name.to_owned()),
        None => words.last().is_some_and(|name| plain.insert(name.clone())),
    };
}

#[test]
fn every_field_that_is_used_was_measured() {
    let (table_plain, table_bits) = table();
    let (plain, bits) = defined();
    let sources = sources();
    let (fields, _) = accessed(&sources);
    let mut missing = Vec::new();
    for name in table_plain.keys() {
        let known = plain.get(name).unwrap_or_else(|| panic!("{name} is not in nginx's headers"));
        let used = known.iter().filter(|field| fields.contains(field.as_str()));
        missing.extend(
            used.filter(|field| !table_plain[name].contains(*field))
                .map(|field| format!("{name}.{field}")),
        );
        let module =
            name.trim_start_matches("ngx_").trim_start_matches("http_").trim_end_matches("_t");
        let read = |field: &&String| {
            sources.contains(&format!("bits::{module}::{field}("))
                || sources.contains(&format!("bits::{module}::set_{field}("))
        };
        let read = bits.get(name).into_iter().flatten().filter(read);
        missing.extend(
            read.filter(|field| !table_bits[name].contains(*field))
                .map(|field| format!("{name}.{field}")),
        );
    }
    assert!(missing.is_empty(), "build/layout.txt lacks {missing:?}");
}

#[test]
fn every_structure_that_is_used_was_measured() {
    let (table, _) = table();
    let (plain, _) = defined();
    let sources = sources();
    let used: BTreeSet<_> = identifiers(&sources).map(|(_, name)| name).collect();
    let missing: Vec<_> = plain
        .keys()
        .filter(|name| name.starts_with("ngx_") && used.contains(name.as_str()))
        .filter(|name| !table.contains_key(*name))
        .collect();
    assert!(missing.is_empty(), "build/layout.txt lacks {missing:?}");
}

#[test]
fn no_bit_field_goes_through_the_bindings() {
    let (_, bits) = defined();
    let sources = sources();
    let (_, methods) = accessed(&sources);
    // Setters are recognized by their names. Names of getters are also names of methods in Rust.
    let setters: BTreeSet<_> =
        bits.values().flatten().map(|field| format!("set_{field}")).collect();
    let written: Vec<_> = methods.iter().filter(|name| setters.contains(**name)).collect();
    assert!(written.is_empty(), "bit fields are written by {written:?}");
    let (_, table) = table();
    let read: Vec<_> = table
        .values()
        .flatten()
        .filter(|field| !["len", "close"].contains(&field.as_str()))
        .filter(|field| sources.contains(&format!(").{field}()")))
        .collect();
    assert!(read.is_empty(), "bit fields are read by {read:?}");
}
