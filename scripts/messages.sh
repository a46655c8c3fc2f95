# shellcheck shell=bash
# Messages of the scripts: progress on stderr, so that stdout has only output for callers. Sourced by the
# other files of this directory.

# say TEXT: prints a line of progress.
say() {
    printf '%s\n' "$*" >&2
}

# fail SENTENCE: exits with this error message.
fail() {
    say "${0##*/}: $*"
    exit 1
}
