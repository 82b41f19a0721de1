//! Sets the link flags that a Node.js addon needs on each platform.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    napi_build::setup();
}
