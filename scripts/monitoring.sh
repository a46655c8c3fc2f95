# shellcheck shell=bash
# Checks monitoring/ with promtool from the distribution's package of Prometheus, which is downloaded and unpacked,
# not installed. Sourced by scripts/test; needs its functions, $root, and $target.

# test_monitoring: leaves promtool below target/ for the next run.
test_monitoring() {
    step "promtool" fetch_promtool
    step "monitoring/alerts.yaml" "$promtool" check rules "$root/monitoring/alerts.yaml"
    step "monitoring/alerts-test.yaml" "$promtool" test rules "$root/monitoring/alerts-test.yaml"
}

# fetch_promtool: sets `promtool` to the path of the program.
fetch_promtool() {
    local place=$target/prometheus
    promtool=$place/usr/bin/promtool
    [ ! -x "$promtool" ] || return 0
    mkdir -p "$place"
    (cd "$place" && apt-get -q download prometheus) || fail "the package prometheus cannot be downloaded"
    dpkg -x "$place"/prometheus_*.deb "$place"
    rm -f "$place"/prometheus_*.deb
}
