"""Makes small errors in the sources, one at a time, and counts how many the unit tests notice.

cargo-mutants lists the errors ("mutants"): a function that does nothing, < in place of <=, and so on. This program
takes a random sample of them and runs the unit tests with each, up to the first failure: the quickest first, and only
those that call the function. scripts/test calls it.

All mutants of a sample are compiled into one test program. A function that has some is generated with its body once
for each of them, and SSE_MUTANT selects one when the program runs; with SSE_CALLED, the program writes to that file
whose functions were called. What cannot be compiled that way (functions that return `impl Trait`, constants) is built
on its own, if there are not enough others, and all tests are run with it.

    mutants.py --root ROOT --target DIRECTORY --seed SEED --count COUNT PATH...
"""

import argparse
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Files that are compiled only for tests, or not for them.
LEFT_OUT = re.compile(r"/tests?\b|_tests\.rs$|^src/hub/invariants\.rs$|^src/hub/memory/meter\.rs$")
# The first tests are those that take so many seconds together, the next ones this many times as many, and so on.
FIRST, NEXT = 1, 4
# The processor time of tests without a mutant, and this many times more, is their limit. So is this memory.
PATIENCE, MEMORY = 5, 8 << 30
# In bytes. A function with many mutants needs several times its usual stack.
STACK = 64 << 20
# So many mutants are taken for each that is wanted, because some do not compile.
SPARE = 1.4

# The tests of these layers compute so much that optimizing them pays. Elsewhere, compiling would take longer.
SLOW_LAYERS = ("src/hub", "src/worker")

SWITCH = """
/// Returns whether the sources are to behave as this mutant. With SSE_CALLED, appends its number to that file, once.
#[allow(dead_code)]
pub fn mutant(number: u32) -> bool {
    static SELECTED: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    static IS_TRACED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let selected = || std::env::var("SSE_MUTANT").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    if *IS_TRACED.get_or_init(|| std::env::var_os("SSE_CALLED").is_some()) {
        trace_mutant(number);
    }
    *SELECTED.get_or_init(selected) == number
}

#[allow(dead_code)]
#[cold]
fn trace_mutant(number: u32) {
    static CALLED: std::sync::Mutex<[bool; 1 << 14]> = std::sync::Mutex::new([false; 1 << 14]);
    let mut called = CALLED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if std::mem::replace(&mut called[number as usize], true) {
        return;
    }
    let path = std::env::var_os("SSE_CALLED").unwrap_or_default();
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    let _ = file.and_then(|mut file| std::io::Write::write_all(&mut file, format!("{number}\\n").as_bytes()));
}
"""


class Mutant:
    """A mutant as cargo-mutants describes it, with its number in the sample."""

    def __init__(self, described, number):
        self.name, self.file, self.number = described["name"], described["file"], number
        self.span, self.replacement, self.genre = described["span"], described["replacement"], described["genre"]
        self.function = function_of(described)


def function_of(described):
    function = described["function"]
    return function and (described["file"], json.dumps(function["span"], sort_keys=True))


class Text:
    """The text of a file, in which places have a line and a column."""

    def __init__(self, text):
        self.text, self.starts = text, [0]
        for line in text.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def range(self, span):
        at = lambda place: self.starts[place["line"] - 1] + place["column"] - 1
        return at(span["start"]), at(span["end"])


class Sources:
    """A copy of the sources, with mutants."""

    def __init__(self, root, target, paths):
        self.tree, self.build = target / "tree", target / "build"
        self.optimization = 1 if any(path.startswith(SLOW_LAYERS) for path in paths) else 0
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, stdout=subprocess.PIPE).stdout
        shutil.rmtree(self.tree, ignore_errors=True)
        for name in filter(None, listed.decode().split("\0")):
            if (root / name).is_file():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / name, self.tree / name)
        with open(self.tree / "src/lib.rs", "a") as file:
            file.write(SWITCH)
        self.originals, self.regions = {}, {}

    def list(self, path):
        """Returns the mutants of a file or directory, and the body of each function."""
        files = [argument for file in (path, f"{path}/**", f"{path}.rs") for argument in ("--file", file)]
        command = ["cargo", "mutants", "--list", "--json", *files]
        listed = subprocess.run(command, cwd=self.tree, check=True, stdout=subprocess.PIPE).stdout
        listed = [described for described in json.loads(listed) if not LEFT_OUT.search(described["file"])]
        bodies = {function_of(one): one["span"] for one in listed if one["genre"] == "FnValue"}
        return listed, bodies

    def original(self, file):
        if file not in self.originals:
            self.originals[file] = Text((self.tree / file).read_text())
        return self.originals[file]

    def restore(self):
        for file, original in self.originals.items():
            if (self.tree / file).read_text() != original.text:
                (self.tree / file).write_text(original.text)
        self.regions = {}

    def mutate(self, mutant):
        """Makes this error."""
        text = self.original(mutant.file)
        start, end = text.range(mutant.span)
        (self.tree / mutant.file).write_text(text.text[:start] + mutant.replacement + text.text[end:])

    def mutate_all(self, mutants, bodies):
        """Compiles these mutants in. `regions` then has where each one is, in bytes."""
        self.restore()
        by_file = {}
        for mutant in mutants:
            by_file.setdefault(mutant.file, {}).setdefault(mutant.function, []).append(mutant)
        for file, functions in by_file.items():
            self.write_with(file, functions, bodies)

    def write_with(self, file, functions, bodies):
        text, written, at, regions = self.original(file), "", 0, []
        for function, mutants in sorted(functions.items(), key=lambda item: text.range(bodies[item[0]])):
            start, end = text.range(bodies[function])
            written += text.text[at:start]
            first = len(written.encode())
            for mutant in mutants:
                low, high = text.range(mutant.span)
                before = len(written.encode())
                written += f"if crate::mutant({mutant.number}) {{\n{text.text[start:low]}{mutant.replacement}"
                written += f"{text.text[high:end]}\n}} else "
                regions.append((before, len(written.encode()), [mutant]))
            written += f"{{\n{text.text[start:end]}\n}}"
            # An error elsewhere in the function may be due to any of them.
            regions.append((first, len(written.encode()), mutants))
            at = end
        (self.tree / file).write_text(written + text.text[at:])
        self.regions[file] = regions

    def cargo(self, *command):
        command = ["cargo", *command, "--locked", "--message-format", "json",
                   "--config", "profile.test.debug=false",
                   "--config", f'profile.test.package."nginx-sse".opt-level={self.optimization}']
        environment = {**os.environ, "CARGO_TARGET_DIR": str(self.build), "CARGO_INCREMENTAL": "1"}
        done = subprocess.run(command, cwd=self.tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return done.returncode == 0, [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]

    def program(self):
        """Builds the tests. Returns the program, or None if that fails, and the mutants that do not compile."""
        is_built, lines = self.cargo("test", "--lib", "--no-run")
        if is_built:
            return [line["executable"] for line in lines if line.get("executable")][-1], set()
        return None, self.broken(lines)

    def broken(self, lines):
        """Returns the mutants that these messages of cargo are about."""
        broken = set()
        for line in lines:
            message = line.get("message", {})
            if not isinstance(message, dict) or message.get("level") != "error":
                continue
            for span in message["spans"]:
                regions = self.regions.get(span["file_name"], [])
                inside = [all for low, high, all in regions if low <= span["byte_start"] < high]
                if inside:
                    broken.update(inside[0])
        return broken


def limited(seconds):
    def limit():
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.setsid()

    return limit


def run(tree, program, number, names, seconds):
    """Runs these tests with a mutant. Returns the outcome: "passed", "failed", or "took too long"."""
    environment = {"SSE_MUTANT": str(number)}
    process = start(tree, [program, "--exact", "--test-threads", "1", *names], environment, seconds)
    # A test that waits for ever takes no processor time.
    late = threading.Timer(20 * seconds, kill, [process])
    late.start()
    # The first failure is enough.
    has_failed = any(line.endswith(b" FAILED\n") for line in process.stdout)
    late.cancel()
    status = None if has_failed else process.wait()
    kill(process)
    process.wait()
    process.stdout.close()
    if status == 0:
        return "passed"
    return "took too long" if status in (-signal.SIGXCPU, -signal.SIGKILL) else "failed"


def start(tree, command, environment, seconds):
    """Starts a test program, in a session of its own, which may take so many seconds of processor time."""
    return subprocess.Popen(
        command, cwd=tree, preexec_fn=limited(seconds),
        env={**os.environ, "RUST_BACKTRACE": "0", "RUST_MIN_STACK": str(STACK), "CARGO_MANIFEST_DIR": str(tree), **environment},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )


def kill(process):
    """Kills a test program. Tests start processes of their own, which are in the same session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Tests:
    """The tests of a program: the seconds that each takes, and the mutants whose functions each calls."""

    def __init__(self, sources, program):
        self.sources, self.program, self.seconds, self.called = sources, program, {}, {}
        listed = start(sources.tree, [program, "--list"], {}, 60).communicate()[0].decode()
        names = re.findall(r"^(\S+): test$", listed, re.M)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            broken = [name for name, is_good in zip(names, pool.map(self.measure, names)) if not is_good]
        if broken or not names:
            sys.exit(f"mutants: the tests fail without a mutant: {' '.join(broken)}")

    def measure(self, name):
        called, since = self.sources.build / f"called-{threading.get_ident()}", time.monotonic()
        called.unlink(missing_ok=True)
        command = [self.program, "--exact", name]
        process = start(self.sources.tree, command, {"SSE_CALLED": str(called)}, 3600)
        process.communicate()
        self.seconds[name] = time.monotonic() - since
        self.called[name] = {int(line) for line in called.read_text().split()} if called.exists() else set()
        return process.returncode == 0

    def stages(self, mutant=None):
        """Returns the tests that call the function of a mutant, or all, the quickest first, in stages: their names
        and the limit of a stage, in seconds of processor time."""
        names = [name for name in self.seconds if mutant is None or mutant.number in self.called[name]]
        stages, size, duration = [[]], FIRST, lambda names: sum(self.seconds[name] for name in names)
        for name in sorted(names, key=self.seconds.get):
            if duration(stages[-1]) > size:
                stages, size = stages + [[]], size * NEXT
            stages[-1].append(name)
        return [(names, int(10 + PATIENCE * duration(names))) for names in stages if names]


def notice(tree, program, mutant, stages):
    """Runs these tests with a mutant. Returns the outcome, and what has noticed it."""
    for number, (names, seconds) in enumerate(stages):
        outcome = run(tree, program, mutant.number, names, seconds)
        if outcome != "passed":
            return "caught", f"{outcome} in stage {number + 1}"
    return "MISSED", "" if stages else "no test calls the function"


def notice_alone(tests, mutant):
    """The same for a mutant that is built on its own."""
    sources = tests.sources
    sources.restore()
    sources.mutate(mutant)
    program, _ = sources.program()
    outcome = notice(sources.tree, program, mutant, tests.stages()) if program else ("does not compile", "")
    sources.restore()
    return outcome


def compile_together(sources, mutants, bodies):
    """Builds as many of the mutants as possible into one program. Returns it, and those that are in it."""
    together = [mutant for mutant in mutants if mutant.function in bodies]
    # The body of an inner function would be generated within that of an outer one.
    ranges = {mutant.function: (mutant.file, sources.original(mutant.file).range(bodies[mutant.function])) for mutant in together}
    inner = lambda one: any(file == ranges[one][0] and low <= ranges[one][1][0] and ranges[one][1][1] <= high
                            for other, (file, (low, high)) in ranges.items() if other != one)
    together = [mutant for mutant in together if not inner(mutant.function)]
    while True:
        sources.mutate_all(together, bodies)
        program, broken = sources.program()
        if program:
            break
        if not broken:
            sys.exit("mutants: the tests do not compile")
        together = [mutant for mutant in together if mutant not in broken]
    kept = f"{program}-mutants"
    shutil.copy2(program, kept)
    return kept, set(together)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("paths", nargs="+")
    options = parser.parse_args()
    options.target.mkdir(parents=True, exist_ok=True)
    sources, samples, all_bodies, number = Sources(options.root, options.target.resolve(), options.paths), {}, {}, 1
    for path in options.paths:
        listed, bodies = sources.list(path)
        if not listed:
            sys.exit(f"mutants: cargo-mutants finds none in {path}")
        print(f"{len(listed)} mutants in {path}; sample of {options.count} with seed {options.seed}", flush=True)
        random.Random(options.seed).shuffle(listed)
        listed = listed[: int(options.count * SPARE)]
        samples[path] = [Mutant(described, number + i) for i, described in enumerate(listed)]
        all_bodies.update(bodies)
        number += len(listed)
    every = [mutant for sample in samples.values() for mutant in sample]
    program, together = compile_together(sources, every, all_bodies)
    print(f"{len(together)} of {len(every)} are built together", flush=True)
    tests = Tests(sources, program)
    shares = [Sample(path, options).try_all(tests, mutants, together) for path, mutants in samples.items()]
    sys.exit(0 if min(shares) >= 90 else 1)


class Sample:
    """The outcomes of the mutants of a path."""

    def __init__(self, path, options):
        self.path, self.seed, self.wanted, self.since = path, options.seed, options.count, time.monotonic()
        self.counts, self.missed = {"caught": 0, "MISSED": 0, "does not compile": 0}, []

    def tried(self):
        return self.counts["caught"] + self.counts["MISSED"]

    def record(self, mutant, outcome, how):
        self.counts[outcome] += 1
        if outcome == "MISSED":
            self.missed.append(mutant.name)
        print(f"{outcome:16}  {mutant.name}  {how}", flush=True)

    def try_all(self, tests, mutants, together):
        """Tries mutants until as many were tried as are wanted. Returns how many percent were caught."""
        built = [mutant for mutant in mutants if mutant in together][: self.wanted]
        attempt = lambda mutant: notice(tests.sources.tree, tests.program, mutant, tests.stages(mutant))
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for mutant, outcome in zip(built, pool.map(attempt, built)):
                self.record(mutant, *outcome)
        for mutant in mutants:
            if mutant not in together and self.tried() < self.wanted:
                self.record(mutant, *notice_alone(tests, mutant))
        return self.summary()

    def summary(self):
        share = 100 * self.counts["caught"] / max(self.tried(), 1)
        print(f"{self.path}: caught {self.counts['caught']} of {self.tried()} ({share:.0f}%), seed {self.seed};"
              f" {self.counts['does not compile']} more do not compile; {time.monotonic() - self.since:.0f} s")
        for name in self.missed:
            print(f"missed: {name}", flush=True)
        return share


if __name__ == "__main__":
    main()
