//! Compiles the module's C code, and measures nginx's structures in C.
//!
//! The fields of nginx's structures depend on nginx's configure options. `layout` measures their
//! offsets, and macros.c contains code that depends on these options. The crate nginx-sys finds the
//! configured nginx and passes its include directories and flags on as DEP_NGINX_*, which cargo
//! sets only for the build scripts of crates that depend on it directly.

#![allow(clippy::expect_used, reason = "a build script that panics shows the message")]

#[path = "build/layout.rs"]
mod layout;

use std::env;
use std::path::PathBuf;

fn main() {
    for file in [
        "build.rs",
        "build/layout.rs",
        "build/layout.txt",
        "build/measure.c.in",
        "src/nginx/macros.c",
    ] {
        println!("cargo::rerun-if-changed={file}");
    }
    if let Err(error) = compile_c() {
        println!("cargo::error={error}");
    }
}

/// Measures the structures and compiles macros.c.
fn compile_c() -> Result<(), String> {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    if variable("HOST") != variable("TARGET") {
        return Err(format!(
            "cross-compiling is not supported: the layout of structures on {} is measured by a \
             program that must run on {}",
            variable("TARGET"),
            variable("HOST")
        ));
    }
    println!("cargo::rerun-if-env-changed=DEP_NGINX_INCLUDE");
    println!("cargo::rerun-if-env-changed=DEP_NGINX_CFLAGS");
    let (include, flags) = (variable("DEP_NGINX_INCLUDE"), variable("DEP_NGINX_CFLAGS"));
    println!("cargo::rustc-env=NGX_INCLUDE={include}");
    layout::measure(&include, &flags, &PathBuf::from(variable("OUT_DIR")))?;
    let mut macros = layout::compiler(&include, &flags);
    macros.cargo_metadata(true).file("src/nginx/macros.c");
    if !variable("CARGO_FEATURE_SANITIZED").is_empty() {
        macros.define("NGX_SSE_SANITIZED", "1").flag("-fsanitize=undefined");
    }
    macros.try_compile("ngx_sse_macros").map_err(|error| format!("src/nginx/macros.c: {error}"))
}
