# shellcheck shell=bash
# Installs cargo-mutants and runs mutants.py. Sourced by scripts/test; needs its functions, $root, and $target.

readonly cargo_mutants_version=27.1.0
# The parts of the source that unit tests cover.
readonly mutated_paths=(src/sse src/access src/hub src/worker src/redis)

# test_mutants [PATH] [COUNT]: a sample of COUNT mutants of PATH, or of each of the parts. The seed is printed;
# SSE_MUTANTS_SEED repeats a sample.
test_mutants() {
    local paths=("${mutated_paths[@]}") count=${2:-100} path
    local seed=${SSE_MUTANTS_SEED:-$RANDOM$RANDOM}
    [ $# -eq 0 ] || paths=("$1")
    for path in "${paths[@]}"; do
        [ -e "$root/$path" ] || fail "$path does not exist"
    done
    step "packages" install_everything
    choose_tree
    step "cargo-mutants" install_cargo_mutants
    step "mutants" in_root python3 "$root/scripts/mutants.py" --root "$root" --target "$target/mutants" \
        --seed "$seed" --count "$count" "${paths[@]}"
}

install_cargo_mutants() {
    export PATH=$target/tools/bin:$PATH
    command -v cargo-mutants >/dev/null ||
        cargo install --quiet --locked --version "$cargo_mutants_version" --root "$target/tools" \
            --target-dir "$target/tools/build" cargo-mutants
}
