//! Tells rustc what nginx this is built for.
//!
//! The crate nginx-sys reads a configured nginx and passes on what it found as DEP_NGINX_*; cargo
//! gives these to the build script of a direct dependent only, and only a build script can turn
//! them into `cfg(ngx_feature = "…")` and `cfg(ngx_os = "…")`. A structure of nginx has other
//! fields when nginx was configured otherwise, and code that touches such a field asks for it
//! with one of these. Nothing is generated or compiled here.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    pass_on("ngx_feature", "DEP_NGINX_FEATURES");
    pass_on("ngx_os", "DEP_NGINX_OS");
}

/// Sets `cfg(NAME = "…")` for each value of a comma-separated variable, and declares the values
/// that `VARIABLE_CHECK` lists, so that a misspelt one is a warning and not code left out.
fn pass_on(name: &str, variable: &str) {
    let known = format!("{variable}_CHECK");
    println!("cargo::rerun-if-env-changed={variable}");
    println!("cargo::rerun-if-env-changed={known}");

    let known = env::var(known).unwrap_or_else(|_| "any()".to_owned());
    println!("cargo::rustc-check-cfg=cfg({name}, values({known}))");
    for value in env::var(variable).unwrap_or_default().split(',').map(str::trim) {
        if !value.is_empty() {
            println!("cargo::rustc-cfg={name}=\"{value}\"");
        }
    }
}
