//! Selects the code that is compiled for the fuzz targets only. cargo-fuzz sets the same flag.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=fuzzing");
}
