# shellcheck shell=bash
# Installs libraries of others that issue tokens and runs t/tokens with them. Sourced by scripts/test; needs its
# functions, packages.sh, perl-suite.sh, clients.sh, $root, and $target.

# test_tokens: runs t/tokens. With SSE_LCOBUCCI, the path of a checkout of lcobucci/jwt, also with that.
test_tokens() {
    step "libraries" install_issuers
    step "build for nginx $(nginx_version "$nginx")" build_installed
    SSE_TOKEN_PACKAGES=$target/tokens \
        step "t/tokens with nginx $(nginx_version "$nginx")" run_suite "$nginx" "$module" t/tokens/issuers.t
}

# missing_issuer_packages: prints the Debian packages with which the libraries are installed, one per line.
missing_issuer_packages() {
    missing_client_packages
    command -v node >/dev/null || echo nodejs
    [ -z "${SSE_LCOBUCCI:-}" ] || command -v php >/dev/null || echo php-cli
}

# install_issuers: installs the packages of t/tokens into target/tokens, beside the programs that import them.
install_issuers() {
    install_packages_beside "$root/t/tokens" issuers "$target/tokens"
}
