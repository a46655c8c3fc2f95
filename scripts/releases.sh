# shellcheck shell=bash
# Tests the module with the supported releases of nginx, and writes the table of results. Sourced; needs
# messages.sh, packages.sh, nginx.sh, release-tree.sh, release-check.sh, $root and $target.

readonly releases=(debian-12 debian-13 debian-sid ubuntu-24.04 source source-compat source-plain nginx.org)

# title_of RELEASE: prints its title in the table.
title_of() {
    case $1 in
        debian-12) echo "Debian 12 (bookworm)" ;;
        debian-13) echo "Debian 13 (trixie)" ;;
        debian-sid) echo "Debian sid" ;;
        ubuntu-24.04) echo "Ubuntu 24.04 (noble)" ;;
        source) echo "source, without \`--with-compat\`" ;;
        source-compat) echo "source, \`--with-compat\`" ;;
        source-plain) echo "source, \`./configure\` without arguments (no TLS)" ;;
        nginx.org) echo "as nginx.org configures its packages" ;;
    esac
}

# suite_of RELEASE: prints debootstrap's name of the distribution; nothing for other releases.
suite_of() {
    case $1 in
        debian-12) echo bookworm ;;
        debian-13) echo trixie ;;
        debian-sid) echo sid ;;
        ubuntu-24.04) echo noble ;;
    esac
}

# test_releases [--write] [--in FOLDER] [RELEASE...] [FILE...]: tests these releases, or all; with these files of t/, or
# all. Everything that is built stays in FOLDER, which makes the next run faster.
test_releases() {
    local place=$target/releases write=no chosen=() files=() failed=() release
    parse_releases "$@"
    mkdir -p "$place"
    prepare_releases
    for release in "${chosen[@]}"; do
        test_release "$release" && is_known "$release" || failed+=("$release")
    done
    say ""
    print_table "${chosen[@]}"
    [ "$write" = no ] || write_table
    [ ${#failed[@]} -eq 0 ] || fail "failed: ${failed[*]}; see $place/*.log"
}

# parse_releases ARGUMENT...: sets the variables that test_releases declares.
parse_releases() {
    while [ $# -gt 0 ]; do
        case $1 in
            --write) write=yes ;;
            --in) place=$(realpath -m -- "${2:?--in needs a folder}") && shift ;;
            *.t) files+=("$1") ;;
            *)
                [[ " ${releases[*]} " == *" $1 "* ]] || fail "unknown release $1; known releases: ${releases[*]}"
                chosen+=("$1")
                ;;
        esac
        shift
    done
    [ ${#chosen[@]} -gt 0 ] || chosen=("${releases[@]}")
    [ "$write" = no ] || [ ${#files[@]} -eq 0 ] || fail "--write requires a complete run, without files of t/"
}

# prepare_releases: installs the packages that this machine needs for them.
prepare_releases() {
    local missing=() release distributions=no
    for release in "${chosen[@]}"; do
        [ -z "$(suite_of "$release")" ] || distributions=yes
    done
    command -v curl >/dev/null || missing+=(curl)
    if [ "$distributions" = yes ]; then
        [ "$(id -u)" -eq 0 ] || fail "testing distributions requires root; without it: scripts/test" \
            "releases source source-compat source-plain nginx.org"
        command -v debootstrap >/dev/null || missing+=(debootstrap)
        command -v git >/dev/null || missing+=(git)
    fi
    # nginx-dev depends on the libraries with which nginx is built.
    mapfile -t -O ${#missing[@]} missing < <(unset NGINX_SOURCE_DIR NGINX_BUILD_DIR; missing_packages)
    command -v make >/dev/null || missing+=(make)
    install_packages "${missing[@]}"
    # Crates are downloaded here, because cargo's registry is read-only in a folder.
    (cd "$root" && cargo fetch --quiet --locked)
}

# test_release RELEASE: writes its results to RELEASE.result, and everything else to RELEASE.log.
test_release() {
    local since=$SECONDS status=0 result
    result=$(result_of "$1")
    say "==> $(title_of "$1"), see $place/$1.log"
    echo "date=$(date -u +%F)" >"$result"
    check_one "$1" >>"$result" 2>"$place/$1.log" &
    checking=$!
    wait "$checking" || status=$?
    checking=
    [ "$status" -eq 0 ] || say "    FAILED: $1"
    say "    $((SECONDS - since)) s"
    return "$status"
}

# is_known RELEASE: true if its nginx is not newer than newest_tested_nginx.
is_known() {
    local version
    version=$(sed -n 's/^nginx=//p' "$(result_of "$1")")
    version_at_least "$newest_tested_nginx" "$version" || {
        say "    $1 now has nginx $version: set newest_tested_nginx in scripts/nginx.sh"
        return 1
    }
}

# result_of RELEASE: prints the file of its results. Results of a few files of t/ do not replace those of all.
result_of() {
    [ ${#files[@]} -eq 0 ] && echo "$place/$1.result" || echo "$place/$1.part"
}

# check_one RELEASE: runs the checks in a separate process. As root, it runs in namespaces, so that nothing that it
# mounts or starts is left.
check_one() {
    local apart=()
    [ "$(id -u)" -ne 0 ] || apart=(unshare --mount-proc --pid --fork --kill-child)
    exec "${apart[@]}" "$root/scripts/check-release" "$1" "$place/$1" "${files[@]}"
}

# end_releases: kills what test_release runs. unshare passes on no other signal.
end_releases() {
    [ -z "${checking:-}" ] || kill -KILL "$checking" 2>/dev/null || true
}

# print_table RELEASE...: prints the results in Markdown.
print_table() {
    local release
    echo "| release | nginx | first event | test files | tests | \`HEAD\` ends without a body | lean stream | date |"
    echo "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for release in "$@"; do
        print_row "$release"
    done
}

print_row() {
    local -A found=()
    local key value passed
    while IFS='=' read -r key value; do
        found[$key]=$value
    done < <(cat "$(result_of "$1")" 2>/dev/null)
    if [ -z "${found[files]:-}" ]; then
        echo "| $(title_of "$1") | ${found[nginx]:--} | ${found["first-event"]:--} | not run yet | - | - | - | - |"
        return
    fi
    passed="${found[passed]:-0} of ${found[files]} pass"
    [ "${found[skipped]:-0}" -eq 0 ] || passed+=", ${found[skipped]} skipped"
    echo "| $(title_of "$1") | ${found[nginx]:-?} | ${found["first-event"]:-no} | $passed | ${found[tests]:-?} |" \
        "${found["head-ends"]:-no} | ${found[lean]:-0} | ${found[date]:--} |"
}

# write_table: writes docs/releases.md, with earlier results for releases that this run has not tested.
write_table() {
    {
        cat <<TEXT
# Tested releases

\`scripts/test releases --write\` writes this page. On each release, it runs \`scripts/run\`
until the first event, like a new user, and then the tests of \`t/\`. Distributions are installed
in folders with debootstrap, and tested with the nginx that they package. The others are built from the source
of nginx ${newest_source:=$(source_version "$(crate_source)")} in a crate, as the table describes.

TEXT
        print_table "${releases[@]}"
        cat <<TEXT

nginx $newest_tested_nginx is the newest version with which the module was tested; \`scripts/build\` prints a warning
for a newer version. Test files are skipped if a release lacks something that they combine with streams, such
as a browser or a third-party module; they state the reason.
TEXT
    } >"$root/docs/releases.md"
}
