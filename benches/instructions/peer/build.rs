//! Writes a file that pulls in the parser of `async-memcached` from where cargo has put it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const PACKAGE: &str = r#"{"name":"async-memcached","version":"0.9.0""#;
const MANIFEST: &str = r#""manifest_path":""#;

fn main() {
    let source = source();
    let parser = source.join("parser/mod.rs");
    let error = source.join("error.rs");
    // Lint findings in foreign code are not to be corrected here.
    let modules = format!(
        "#[allow(warnings, clippy::all)]\n#[path = {error:?}]\nmod error;\n\
         #[allow(warnings, clippy::all)]\n#[path = {parser:?}]\nmod parser;\n\
         pub use error::Error;\n\
         pub use parser::{{MetaResponse, parse_meta_set_response}};\n"
    );
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("peer.rs"), modules).expect("OUT_DIR is writable");

    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=Cargo.lock");
    // If the source has been removed, it is searched anew.
    println!("cargo:rerun-if-changed={}", parser.display());
}

/// The directory `src` of `async-memcached`. A string search will do where a parser of JSON would
/// take longer to build than all the rest.
fn source() -> PathBuf {
    let cargo = env::var_os("CARGO").expect("cargo sets CARGO");
    let mut command = Command::new(cargo);
    command.args([
        "metadata",
        "--format-version=1",
        "--locked",
        "--all-features",
    ]);
    let output = command.output().expect("cargo runs");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let manifest = metadata
        .split_once(PACKAGE)
        .and_then(|(_, rest)| rest.split_once(MANIFEST))
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(manifest, _)| Path::new(manifest))
        .expect("cargo metadata tells where async-memcached 0.9.0 is");
    manifest.with_file_name("src")
}
