//! Layers import downwards only. Each top folder of `src` names just the modules of the crate that
//! are listed for it here; `wire` and `proto` name no socket, clock or thread either.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules that each module of the crate may name, from the lowest layer to the highest.
const LAYERS: [(&str, &[&str]); 9] = [
    ("wire", &[]),
    ("proto", &["wire"]),
    ("net", &["wire", "proto"]),
    ("server", &["wire", "proto", "net"]),
    ("engine", &["wire", "proto", "net"]),
    ("async_api", &["wire", "proto", "net", "engine"]),
    ("blocking", &["wire", "proto", "net", "engine"]),
    ("fuzzing", &["wire", "proto", "net", "server"]),
    // The command uses the library as any program does, under the name `memlatch`.
    ("cli", &[]),
];

/// Modules that only the layers above `proto` may use.
const OUTSIDE: [&str; 5] = ["std::net", "std::time", "std::thread", "std::env", "tokio"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code without comments, up to the tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("UTF-8");
    let code = text.split("#[cfg(test)]\nmod tests").next();
    let lines = code.unwrap_or_default().lines();
    lines
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| line.split(" // ").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The modules that follow `crate::`, in lists as well.
fn modules_named(code: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        let is_part = |byte: &char| byte.is_alphanumeric() || *byte == '_';
        text.chars().take_while(is_part).collect()
    };
    let mut found = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let Some(list) = after.strip_prefix('{') else {
            found.insert(word(after));
            continue;
        };
        let (mut depth, mut begin) = (0, true);
        for (at, letter) in list.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begin = true,
                letter if begin && !letter.is_whitespace() => {
                    found.insert(word(&list[at..]));
                    begin = false;
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn imports_between_layers_point_downwards() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let mut checked = BTreeSet::new();
    let mut wrong = Vec::new();
    for path in paths {
        let name = path.strip_prefix(&root).expect("below src");
        let name = name.to_string_lossy().replace('\\', "/");
        let layer = name.split(['/', '.']).next().unwrap_or_default();
        if ["lib", "main"].contains(&layer) || name.ends_with("tests.rs") {
            continue;
        }
        let layers = LAYERS.iter().find(|(name, _)| *name == layer);
        let Some((layer, below)) = layers else {
            panic!("src/{name}: say in LAYERS what it may name");
        };
        checked.insert(*layer);
        let code = code(&path);
        for module in modules_named(&code) {
            let is_type = module.starts_with(char::is_uppercase);
            // Types of the root are those of the API, which stands above all but itself.
            let allowed = if is_type {
                *layer == "async_api" || *layer == "blocking"
            } else {
                module == *layer || below.contains(&&*module)
            };
            if !allowed {
                wrong.push(format!("src/{name} names crate::{module}"));
            }
        }
        if ["wire", "proto"].contains(layer) {
            for outside in OUTSIDE.iter().filter(|outside| code.contains(**outside)) {
                wrong.push(format!("src/{name} names {outside}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(checked.len() >= LAYERS.len() - 1, "{checked:?}");
}

#[test]
fn modules_are_found_in_paths() {
    let found = modules_named("use crate::{wire::{Key, Value}, net, proto::x}; crate::engine::y()");
    let found: Vec<_> = found.iter().map(String::as_str).collect();
    assert_eq!(found, ["engine", "net", "proto", "wire"]);
}
