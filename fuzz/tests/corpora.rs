//! Runs every target over its corpus, without the fuzzer.

use std::path::{Path, PathBuf};

/// Names each target and the module that has it: a test for each, and the list of all.
macro_rules! targets {
    ($($name:ident: $($module:ident)::+,)*) => {
        $(
            #[test]
            fn $name() {
                run_corpus(stringify!($name), nginx_sse_fuzz::$($module)::+::$name::run);
            }
        )*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

targets! {
    batch: fuzz,
    channel_names: fuzz,
    event: fuzz,
    handover: hub::fuzz,
    header_names: fuzz,
    hub: hub::fuzz,
    id: fuzz,
    key_file: fuzz,
    last_event_id: hub::fuzz,
    origin: fuzz,
    pattern: fuzz,
    publish_parameters: fuzz,
    redis_bounds: redis::fuzz,
    redis_message: redis::fuzz,
    redis_names: redis::fuzz,
    redis_order: redis::fuzz,
    redis_replies: redis::fuzz,
    redis_url: redis::fuzz,
    stream_counter: redis::fuzz,
    timestamp: fuzz,
    token: fuzz,
    token_source: fuzz,
}

/// Reports which file failed.
struct Current(PathBuf);

impl Drop for Current {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed: {}", self.0.display());
        }
    }
}

fn run_corpus(name: &str, target: fn(&[u8])) {
    let files = files_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name));
    assert!(!files.is_empty(), "{name} has no corpus");
    target(b"");
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let _current = Current(file);
        target(&bytes);
    }
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_target_has_a_binary_and_a_corpus() {
    for (folder, ending) in [("fuzz_targets", ".rs"), ("corpus", "")] {
        let files = files_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
        let names = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap());
        let names: Vec<&str> = names.map(|name| name.strip_suffix(ending).unwrap()).collect();
        assert_eq!(names, NAMES, "{folder}");
    }
}
