//! Asks the C compiler what Rust cannot know of the nginx that this is built for.
//!
//! The crate nginx-sys reads a configured nginx and passes on what it found as DEP_NGINX_*, which cargo
//! gives to the build script of a direct dependent only. A structure of nginx has other fields when nginx
//! was configured otherwise: `layout` measures where they are, and macros.c, which is compiled here, has
//! what stands behind C's own conditions.

#![allow(clippy::expect_used, reason = "a build script that stops says why")]

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
    if let Err(error) = ask_c() {
        println!("cargo::error={error}");
    }
}

/// Everything that is compiled from C.
fn ask_c() -> Result<(), String> {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    if variable("HOST") != variable("TARGET") {
        return Err(format!(
            "cross-compiling is not supported: what {} puts where is measured by a program that \
             must run on {}",
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
    macros.try_compile("ngx_sse_macros").map_err(|error| format!("src/nginx/macros.c: {error}"))
}
