# shellcheck shell=bash
# Builds the examples, and runs their tests. Sourced by scripts/run and scripts/test; needs messages.sh, $root, and
# $target. Nothing is written below examples/: the copy in target/examples has the packages and what is built.

# examples: prints the names of the examples that scripts/run serves, one per line.
examples() {
    local folder
    for folder in "$root"/examples/*/; do
        folder=${folder%/}
        [ ! -e "$folder/html" ] && [ ! -e "$folder/index.html" ] || echo "${folder##*/}"
    done
}

# example_configuration NAME: prints the path of the example's configuration: that of nginx-conf/ with its name, or else
# the demo's.
example_configuration() {
    local file=$root/nginx-conf/$1.conf
    [ -e "$file" ] || file=$root/nginx-conf/demo.conf
    echo "$file"
}

# install_examples: copies the examples into target/examples, and installs the packages that they need from npm. What an
# earlier run has installed is kept if the versions are the same.
install_examples() {
    local place=$target/examples
    mkdir -p "$place"
    cp -r "$root/examples/." "$place/"
    if ! cmp -s "$place/package-lock.json" "$place/installed"; then
        command -v npm >/dev/null || fail "npm is not installed (Debian: nodejs npm); this example needs it"
        (cd "$place" && npm ci --no-audit --no-fund --loglevel error) >&2 ||
            fail "the npm packages of examples/ could not be installed"
        cp "$place/package-lock.json" "$place/installed"
    fi
}

# build_example NAME: builds an example's page, if it has to be built, and prints the folder of the page.
build_example() {
    if [ -d "$root/examples/$1/html" ]; then
        echo "$root/examples/$1/html"
        return
    fi
    (cd "$target/examples/$1" && npm run --silent build -- --logLevel error) >&2 || fail "examples/$1 could not be built"
    echo "$target/examples/$1/dist"
}

# missing_example_packages: prints the Debian packages that the tests of the examples need, one per line.
missing_example_packages() {
    command -v npm >/dev/null || printf '%s\n' nodejs npm
    command -v php >/dev/null || echo php-cli
    [ -n "$(php -r 'echo extension_loaded("redis");' 2>/dev/null)" ] || echo php-redis
    command -v ruby >/dev/null || echo ruby
    ruby -e 'require "redis"' 2>/dev/null || echo ruby-redis
    /usr/bin/python3 -c 'import redis' 2>/dev/null || echo python3-redis
    command -v go >/dev/null || echo golang-go
}

# test_examples: builds all examples, and drives each of them.
test_examples() {
    step "packages of the examples" install_examples
    step "pages of the examples" build_examples
    step "unit tests of js/" node --test "$root/js/test/"
    step "types of js/" check_types
    step "build for nginx $(nginx_version "$nginx")" build_installed
    SSE_EXAMPLES=$target/examples \
        step "t/examples with nginx $(nginx_version "$nginx")" run_suite "$nginx" "$module" t/examples/{pages,llm-chat,publishers}.t
}

build_examples() {
    local name
    for name in $(examples); do
        build_example "$name" >/dev/null
    done
}

# check_types: a program in TypeScript that uses js/ compiles.
check_types() {
    "$target/examples/node_modules/.bin/tsc" --noEmit --strict --target es2022 --module nodenext --lib es2022,dom \
        "$root/js/test/types.ts"
}
