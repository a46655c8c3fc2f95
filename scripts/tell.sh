# shellcheck shell=bash
# How the scripts speak: progress on stderr, so that stdout holds only what a caller may read.
# Sourced by the other files of this directory.

# say TEXT: one line of progress.
say() {
    printf '%s\n' "$*" >&2
}

# fail SENTENCE: ends the script with one clear sentence.
fail() {
    say "${0##*/}: $*"
    exit 1
}
