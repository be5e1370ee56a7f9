//! Tells the linker that the host provides what the module imports.

fn main() {
    // The host's functions are undefined until a host loads the module. Newer toolchains no
    // longer take that for granted.
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "wasm32") {
        println!("cargo::rustc-link-arg-cdylib=--allow-undefined");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
