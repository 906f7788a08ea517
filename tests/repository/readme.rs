//! The programs of the README, as a reader uses them: pasted into a new crate.
#![cfg(all(feature = "tokio", feature = "blocking", feature = "server"))]

use std::fs;
use std::path::Path;
use std::process::Command;

/// The text of all blocks of a kind that the README has, in its order.
fn blocks<'a>(readme: &'a str, kind: &str) -> Vec<&'a str> {
    let begin = format!("\n```{kind}\n");
    let blocks = readme.split(begin.as_str()).skip(1);
    blocks
        .map(|block| block.split_once("```").expect("its end").0)
        .collect()
}

/// Builds without a warning, and its tests pass: with the dependencies that the README names.
#[test]
fn readme_compiles_in_new_crate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("text");
    let program = blocks(&readme, "rust,no_run")[0];
    let tests = blocks(&readme, "rust")[0];
    assert!(
        program.contains("fn main()") && !program.contains("\n# "),
        "{program}"
    );
    let dependencies = blocks(&readme, "toml")[0];
    let here = format!("{{ path = {root:?}");
    let dependencies = dependencies
        .replace("memlatch = \"0.1\"", &format!("memlatch = {here} }}"))
        .replace(
            "memlatch = { version = \"0.1\"",
            &format!("memlatch = {here}"),
        );
    assert_eq!(dependencies.matches(&here).count(), 2, "{dependencies}");

    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme");
    fs::create_dir_all(package.join("src")).expect("a folder");
    fs::create_dir_all(package.join("tests")).expect("a folder");
    let manifest = format!(
        "[package]\nname = \"pasted\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n{dependencies}\n\
         [workspace]\n"
    );
    for (file, text) in [
        ("Cargo.toml", manifest.as_str()),
        ("src/main.rs", program),
        ("tests/locks.rs", tests),
    ] {
        fs::write(package.join(file), text).expect("written");
    }
    fs::copy(root.join("Cargo.lock"), package.join("Cargo.lock")).expect("copied");
    // The lock file has all that is needed, and more than that.
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["test", "--offline", "--quiet", "--target-dir"])
        .arg(package.join("target"))
        .current_dir(&package)
        .env("RUSTFLAGS", "-D warnings")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    let done = cargo.output().expect("cargo runs");
    let said = String::from_utf8_lossy(&done.stderr);
    let shown = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && !said.contains("warning"),
        "{said}{shown}"
    );
    assert!(shown.contains("2 passed"), "{said}{shown}");
}

/// With everything as it comes, the restart guard included. An attempt that does not wait is refused
/// where the guard would have to wait.
#[tokio::test]
async fn embedded_servers_first_lock_never_waits() {
    let server = memlatch::server::Server::start().expect("a free port");
    let client = memlatch::Client::connect(server.address()).await;
    let client = client.expect("it is there");
    let guard = client.lock("async").try_acquire().await.expect("no wait");
    assert!(guard.expect("free").is_valid());
    assert_eq!(client.stats().wait_time.count(), 0);

    let server = memlatch::server::Server::start().expect("a free port");
    let client = memlatch::blocking::Client::connect(server.address());
    let client = client.expect("it is there");
    let guard = client.lock("blocking").try_acquire().expect("no wait");
    assert!(guard.expect("free").is_valid());
    assert_eq!(client.stats().wait_time.count(), 0);
}
