//! A process that is stopped while it holds the lock. It is this test program again.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::*;

/// The variable with a child's parameter: the path of the hub's file.
const CHILD: &str = "HUB_TEST_STOPPED_CHILD";
const BYTES: usize = 1 << 18;

fn map(path: &PathBuf) -> Region {
    let file = File::options().read(true).write(true).open(path).unwrap();
    Region::from_file(&file, BYTES)
}

#[test]
fn a_child_that_stops() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let hub = Hub::attach(map(&PathBuf::from(path))).unwrap();
    let guard = hub.lock_patiently();
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let itself = std::process::id().to_string();
    Command::new("kill").args(["-STOP", &itself]).status().unwrap();
    // This thread may run for a moment longer than the one that the signal reached. It must not
    // release the lock before it is allowed to.
    std::io::stdin().read_line(&mut String::new()).unwrap();
    drop(guard);
}

#[test]
fn a_stopped_owner_of_the_lock_is_reported_as_stopped() {
    let path = std::env::temp_dir().join(format!("hub-stopped-{}", std::process::id()));
    File::create(&path).unwrap().set_len(BYTES as u64).unwrap();
    let region = map(&path);
    let history = History { count: 1, age: 0 };
    let plan = Plan {
        bytes: BYTES,
        slots: 8,
        max_event: 4096,
        history,
        runs: History::NONE,
        source: Source::Alone,
    };
    format(&region, &plan, 7, at(0)).unwrap();
    let hub = Hub::attach(region).unwrap();
    let test = concat!(module_path!(), "::a_child_that_stops");
    let (_, test) = test.split_once("::").unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let publish = || hub.publish(b"a", &[event(b"1")], None, at(0));
    // At first the lock is free, and then held by a process that runs, until it is stopped.
    let mut input = child.stdin.take().unwrap();
    let is = |locked| publish() == Err(PublishError::Busy(locked));
    let mut wait_until = |locked| {
        let since = std::time::Instant::now();
        while !is(locked) {
            assert!(child.try_wait().unwrap().is_none(), "the child has ended");
            assert!(since.elapsed().as_secs() < 60, "{locked:?}");
        }
        assert!(hub.is_stuck());
    };
    wait_until(Locked::Held);
    input.write_all(b"\n").unwrap();
    wait_until(Locked::Stopped);
    assert!(is(Locked::Stopped));
    input.write_all(b"\n").unwrap();
    Command::new("kill").args(["-CONT", &child.id().to_string()]).status().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(!hub.is_stuck());
    publish().unwrap();
    std::fs::remove_file(&path).unwrap();
}
