//! Measures the offsets of the fields of nginx's structures that the module uses, with a C program
//! that is compiled against the configured source tree and run, as in nginx's own `configure`.
//!
//! bindgen reads the same headers with clang, but computes wrong offsets for bit fields that begin
//! in the middle of a word (nginx 1.29.3 and later). A module with these offsets can be built and
//! loaded, but writes to the wrong bits.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The table of the fields that the module uses.
const TABLE: &str = include_str!("layout.txt");

/// A structure of nginx: its name in C, its ordinary fields, and its bit fields.
struct Structure {
    name: &'static str,
    plain: Vec<&'static str>,
    bits: Vec<&'static str>,
}

/// Parses the table.
fn structures() -> impl Iterator<Item = Structure> {
    let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let (name, fields) = line.split_once(':').expect("build/layout.txt: a name and a colon");
        let (plain, bits) = fields.split_once('|').expect("build/layout.txt: a bar between fields");
        let words = |text: &'static str| text.split_whitespace().collect();
        Structure { name, plain: words(plain), bits: words(bits) }
    })
}

/// Returns the name of a structure's module in src/nginx/bits.rs: its name without prefixes and
/// `_t`.
fn short(name: &str) -> &str {
    let name = name.strip_suffix("_t").unwrap_or(name);
    let name = name.strip_prefix("ngx_").unwrap_or(name);
    name.strip_prefix("http_").unwrap_or(name)
}

/// Returns the C compiler with nginx's include directories and flags.
pub fn compiler(include: &str, flags: &str) -> cc::Build {
    let mut build = cc::Build::new();
    build.includes(env::split_paths(include)).warnings(false).cargo_metadata(false);
    for flag in flags.split_whitespace() {
        build.flag(flag);
    }
    build
}

/// Writes layout.rs to the directory `out`.
pub fn measure(include: &str, flags: &str, out: &Path) -> Result<(), String> {
    let source = out.join("measure.c");
    fs::write(&source, program()).map_err(|error| format!("{}: {error}", source.display()))?;
    let program = compile(&compiler(include, flags), &source, &out.join("measure"))?;
    let ran = Command::new(&program).output().map_err(|error| {
        format!("the program that measures nginx's structures did not run: {error}")
    })?;
    if !ran.status.success() {
        return Err(String::from_utf8_lossy(&ran.stderr).trim().to_owned());
    }
    let layout = out.join("layout.rs");
    fs::write(&layout, ran.stdout).map_err(|error| format!("{}: {error}", layout.display()))
}

/// Compiles the program and returns its path.
fn compile(build: &cc::Build, source: &Path, program: &Path) -> Result<PathBuf, String> {
    let compiler = build.try_get_compiler().map_err(|error| error.to_string())?;
    let compiled = compiler.to_command().arg("-o").arg(program).arg(source).output();
    let compiled = compiled.map_err(|error| format!("{}: {error}", compiler.path().display()))?;
    if compiled.status.success() {
        return Ok(program.to_owned());
    }
    let errors = String::from_utf8_lossy(&compiled.stderr);
    let first = errors.lines().find(|line| line.contains("error")).unwrap_or("no error was named");
    Err(format!("the C program that measures nginx's structures does not compile: {first}"))
}

/// Returns the source of the C program, which prints Rust code.
fn program() -> String {
    let mut asserts = String::new();
    let mut accessors = String::new();
    for Structure { name, plain, bits } in structures() {
        let _ = writeln!(asserts, "    SIZE({name})");
        for field in plain {
            // bindgen appends an underscore to Rust's keywords.
            let rust = if field == "type" { "type_" } else { field };
            let _ = writeln!(asserts, "    OFFSET({name}, {field}, \"{rust}\")");
        }
        if bits.is_empty() {
            continue;
        }
        let _ = writeln!(accessors, "    OPEN({})", short(name));
        for field in bits {
            let _ = writeln!(accessors, "    BITS({name}, {field})");
        }
        let _ = writeln!(accessors, "    CLOSE");
    }
    PROGRAM.replace("@ASSERTS@", &asserts).replace("@ACCESSORS@", &accessors)
}

const PROGRAM: &str = include_str!("measure.c.in");
