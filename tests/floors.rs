//! The house has four floors by what they may know, and imports run downwards only.
//!
//! | place | floor | may name |
//! |---|---|---|
//! | `wire/` | 1 | itself |
//! | `lock/` | 2 | itself, `wire` |
//! | `net/` | 3 | itself, `wire` |
//! | `server/` | 4 | itself, `wire`, `lock`, `net` |
//! | `front/` and single files: what fronts share | 4 | one another, `wire`, `lock`, `net` |
//! | `client/`, `blocking/` | 4 | itself, what fronts share, `wire`, `lock`, `net` |
//! | `fuzzing/`, which nobody may name | outside | everything but the command |
//! | `seeded.rs`: bugs that can be planted, in no ordinary build | outside | nothing; all may name it |
//! | `main.rs`, `command/` | outside | `crate::command`, and `memlatch::` as any user does |
//!
//! Besides, `wire` and `lock` name neither sockets nor clocks of the system.
//!
//! Every path that starts with `crate`, `super` or `self` counts, in a `use` or elsewhere, in
//! unit tests as well; comments and literals do not. What `lib.rs` exports at the root counts as
//! a name of the module that it comes from.

extern crate alloc;

use alloc::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

// ---------------------------------------------------------------------------------------------
// Words

/// What of a source is of interest: names, `::`, and single characters of punctuation.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Name(String),
    Separator,
    Punctuation(char),
}

/// Splits a source into tokens. Comments and literals leave nothing behind.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let next = chars.get(at + 1).copied();
        match chars[at] {
            '/' if next == Some('/') => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
            }
            '/' if next == Some('*') => at = after_block_comment(&chars, at),
            '"' => at = after_string(&chars, at),
            '\'' => at = after_quote(&chars, at),
            ':' if next == Some(':') => {
                found.push(Token::Separator);
                at += 2;
            }
            c if c.is_ascii_digit() => at = after_name(&chars, at),
            c if is_name(c) => {
                let end = after_name(&chars, at);
                let name: String = chars[at..end].iter().collect();
                at = match (name.as_str(), chars.get(end)) {
                    ("b" | "c", Some('"')) => after_string(&chars, end),
                    ("b", Some('\'')) => after_quote(&chars, end),
                    ("r" | "br" | "cr", Some('"' | '#')) => match after_raw_string(&chars, end) {
                        Some(end) => end,
                        // `r#name`: the name follows as a token of its own.
                        None => end + 1,
                    },
                    _ => {
                        found.push(Token::Name(name));
                        end
                    }
                };
            }
            c => {
                if !c.is_whitespace() {
                    found.push(Token::Punctuation(c));
                }
                at += 1;
            }
        }
    }
    found
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn after_name(chars: &[char], from: usize) -> usize {
    let rest = chars[from..].iter();
    from + rest.take_while(|c| is_name(**c)).count()
}

fn after_block_comment(chars: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    break;
                }
            }
            _ => at += 1,
        }
    }
    at
}

/// Behind the string whose opening quote stands at `from`.
fn after_string(chars: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Behind the raw string whose hashes or quote start at `from`, if it is one.
fn after_raw_string(chars: &[char], from: usize) -> Option<usize> {
    let hashes = chars[from..].iter().take_while(|c| **c == '#').count();
    let open = from + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |at: &usize| {
        chars[*at] == '"' && chars[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes
    };
    let end = (open + 1..chars.len()).find(closes)?;
    Some(end + 1 + hashes)
}

/// Behind the character or the lifetime whose quote stands at `from`.
fn after_quote(chars: &[char], from: usize) -> usize {
    match (chars.get(from + 1), chars.get(from + 2)) {
        (Some('\\'), _) => {
            let close = (from + 3..chars.len()).find(|at| chars[*at] == '\'');
            close.map_or(chars.len(), |close| close + 1)
        }
        (Some(_), Some('\'')) => from + 3,
        _ => after_name(chars, from + 1),
    }
}

// ---------------------------------------------------------------------------------------------
// Paths

/// A path as it reads from the root (`crate`, then names), or as it stands where it starts with
/// the name of something else.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    path: Vec<String>,
    /// What it is called behind a `use`.
    called: String,
}

/// All paths of a source with at least two names, and those of its `use` trees.
fn paths(module: &[String], source: &str) -> Vec<Named> {
    let tokens = tokens(source);
    let mut reader = Reader {
        tokens: &tokens,
        at: 0,
        found: Vec::new(),
    };
    // Modules within the file, each with the depth of braces at which it ends.
    let mut inner: Vec<(String, usize)> = Vec::new();
    let mut depth = 0;
    while let Some(token) = tokens.get(reader.at) {
        let before = reader.at.checked_sub(1).map(|at| &tokens[at]);
        match token {
            Token::Punctuation('{') => depth += 1,
            Token::Punctuation('}') => {
                depth -= 1;
                inner.retain(|(_, ends)| *ends < depth + 1);
            }
            Token::Name(name) if name == "mod" => {
                if let (Some(Token::Name(name)), Some(Token::Punctuation('{'))) =
                    (tokens.get(reader.at + 1), tokens.get(reader.at + 2))
                {
                    inner.push((name.clone(), depth + 1));
                }
            }
            Token::Name(name) if before != Some(&Token::Separator) => {
                let is_use = name == "use";
                reader.at += usize::from(is_use);
                let base: Vec<String> = module
                    .iter()
                    .chain(inner.iter().map(|(name, _)| name))
                    .cloned()
                    .collect();
                let start = reader.at;
                reader.read_tree(&base, &[], is_use);
                if reader.at > start {
                    continue;
                }
            }
            _ => {}
        }
        reader.at += 1;
    }
    reader.found
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    found: Vec<Named>,
}

impl Reader<'_> {
    /// Reads a path, or in a `use` a tree of them, behind the names in `stem`.
    fn read_tree(&mut self, base: &[String], stem: &[String], is_use: bool) {
        let mut path = stem.to_vec();
        loop {
            match self.tokens.get(self.at) {
                // `use ::name` starts outside the crate.
                Some(Token::Separator) if path.is_empty() => {
                    self.at += 1;
                    continue;
                }
                Some(Token::Name(name)) => {
                    path.push(name.clone());
                    self.at += 1;
                }
                Some(Token::Punctuation('*')) if is_use => {
                    path.push("*".to_owned());
                    self.at += 1;
                }
                Some(Token::Punctuation('{')) if is_use => {
                    self.at += 1;
                    while self
                        .tokens
                        .get(self.at)
                        .is_some_and(|token| *token != CLOSE)
                    {
                        let before = self.at;
                        self.read_tree(base, &path, is_use);
                        // What is no path: the comma, or `as name`.
                        self.at += usize::from(self.at == before);
                    }
                    self.at += 1;
                    return;
                }
                _ => break,
            }
            match self.tokens.get(self.at) {
                Some(Token::Separator) => self.at += 1,
                _ => break,
            }
        }
        let Some(mut called) = path.last().cloned() else {
            return;
        };
        let renamed = is_use && self.tokens.get(self.at) == Some(&Token::Name("as".to_owned()));
        if let Some(Token::Name(alias)) = self.tokens.get(self.at + 1).filter(|_| renamed) {
            called.clone_from(alias);
            self.at += 2;
        }
        if let Some(path) = resolve(base, &path) {
            self.found.push(Named { path, called });
        }
    }
}

const CLOSE: Token = Token::Punctuation('}');

/// The path from the root. `None` where it does not lead anywhere.
fn resolve(base: &[String], path: &[String]) -> Option<Vec<String>> {
    let first = path.first()?;
    let mut place = base.to_vec();
    let mut rest = path;
    match first.as_str() {
        "crate" => {
            place.clear();
            rest = &rest[1..];
        }
        "self" | "super" => {
            while let Some((step, behind)) = rest.split_first() {
                match step.as_str() {
                    "self" => {}
                    "super" => drop(place.pop()),
                    _ => break,
                }
                rest = behind;
            }
        }
        _ => return (path.len() > 1).then(|| path.to_vec()),
    }
    // `pub(crate)`, `self.field`, `extern crate`: no path behind it.
    if rest.is_empty() {
        return None;
    }
    let root = ["crate".to_owned()];
    Some(root.into_iter().chain(place).chain(rest.to_vec()).collect())
}

// ---------------------------------------------------------------------------------------------
// Places

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Wire,
    Lock,
    Net,
    Server,
    /// What fronts share.
    Shared,
    Client,
    Blocking,
    /// `lib.rs`, and names at the root that it does not have from elsewhere.
    Root,
    /// The bodies of the fuzz targets, which look into everything.
    Fuzzing,
    /// Bugs that can be planted. That none of it is in an ordinary build, the compiler sees to: there
    /// is no such module then.
    Seeded,
    Command,
}

impl Place {
    /// The place of a module that stands at the root.
    fn of(module: &str) -> Self {
        match module {
            "wire" => Self::Wire,
            "lock" => Self::Lock,
            "net" => Self::Net,
            "server" => Self::Server,
            "client" => Self::Client,
            "blocking" => Self::Blocking,
            "command" => Self::Command,
            "fuzzing" => Self::Fuzzing,
            "seeded" => Self::Seeded,
            _ => Self::Shared,
        }
    }

    fn may_name(self, other: Self) -> bool {
        use Place::{
            Blocking, Client, Command, Fuzzing, Lock, Net, Root, Seeded, Server, Shared, Wire,
        };
        self == other
            || match self {
                Command | Seeded => false,
                Wire => other == Seeded,
                Lock | Net => matches!(other, Wire | Seeded),
                Server | Shared => matches!(other, Wire | Lock | Net | Seeded),
                Client | Blocking => matches!(other, Wire | Lock | Net | Shared | Seeded),
                Root | Fuzzing => other != Command,
            }
    }
}

/// The sources of the crate, by their paths below `src`.
#[derive(Debug, Default)]
struct House {
    files: BTreeMap<String, String>,
}

/// An arrow from a file to the module or name at the root.
type Arrow = (String, String);

impl House {
    fn made_of(files: &[(&str, &str)]) -> Self {
        let owned = |(path, source): &(&str, &str)| ((*path).to_owned(), (*source).to_owned());
        Self {
            files: files.iter().map(owned).collect(),
        }
    }

    fn on_disk() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut house = Self::default();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder of sources") {
                let path: PathBuf = entry.expect("a folder of sources").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let name = path.strip_prefix(&root).expect("below the root");
                    let name = name.to_str().expect("plain names").replace('\\', "/");
                    let source = fs::read_to_string(&path).expect("a source");
                    house.files.insert(name, source);
                }
            }
        }
        house
    }

    /// The module that a file is.
    fn module(file: &str) -> Vec<String> {
        let mut names: Vec<String> = file
            .trim_end_matches(".rs")
            .split('/')
            .map(str::to_owned)
            .collect();
        let is_parent = match names.len() {
            1 => file == "lib.rs" || file == "main.rs",
            _ => file.ends_with("/mod.rs"),
        };
        if is_parent {
            names.pop();
        }
        names
    }

    fn place(file: &str) -> Place {
        match Self::module(file).first() {
            Some(module) => Place::of(module),
            None if file == "main.rs" => Place::Command,
            None => Place::Root,
        }
    }

    /// The modules at the root, and what `lib.rs` exports from each of them.
    fn names_at_root(&self) -> BTreeMap<String, Place> {
        let mut names = BTreeMap::new();
        for file in self.files.keys() {
            if let Some(module) = Self::module(file).into_iter().next() {
                names.insert(module.clone(), Place::of(&module));
            }
        }
        let library = self.files.get("lib.rs").map_or("", String::as_str);
        for Named { path, called } in paths(&[], library) {
            // In the root itself a path may start with the name of a module.
            let path = path.strip_prefix(&["crate".to_owned()]).unwrap_or(&path);
            if let Some(place) = path.first().and_then(|module| names.get(module)).copied() {
                names.entry(called).or_insert(place);
            }
        }
        names
    }

    /// Every arrow that leaves its place, and where it leads.
    fn arrows(&self) -> BTreeMap<Arrow, Place> {
        let names = self.names_at_root();
        let mut arrows = BTreeMap::new();
        for (file, source) in &self.files {
            for Named { path, .. } in paths(&Self::module(file), source) {
                if path[0] != "crate" {
                    continue;
                }
                let target = &path[1];
                let place = names.get(target).copied().unwrap_or(Place::Root);
                arrows.insert((file.clone(), target.clone()), place);
            }
        }
        arrows
    }

    /// The arrows that run up, or sideways where they must not.
    fn forbidden_arrows(&self) -> Vec<Arrow> {
        // Modules of tests alone, which need a server.
        let tests = |file: &str, to| file.ends_with("/several.rs") && to == Place::Server;
        let forbidden =
            |(file, _): &Arrow, to: Place| !tests(file, to) && !Self::place(file).may_name(to);
        self.arrows()
            .into_iter()
            .filter(|(arrow, to)| forbidden(arrow, *to))
            .map(|(arrow, _)| arrow)
            .collect()
    }

    /// What the two lower floors name of the system.
    fn names_of_the_system(&self) -> Vec<Arrow> {
        const BARRED: [&[&str]; 8] = [
            &["std", "time"],
            &["std", "net"],
            &["std", "env"],
            &["std", "fs"],
            &["std", "io"],
            &["std", "thread"],
            &["std", "process"],
            &["tokio"],
        ];
        let mut found = BTreeSet::new();
        for (file, source) in &self.files {
            if !matches!(Self::place(file), Place::Wire | Place::Lock) {
                continue;
            }
            for Named { path, .. } in paths(&Self::module(file), source) {
                let barred = |start: &&[&str]| {
                    path.len() >= start.len() && start.iter().zip(&path).all(|(a, b)| a == b)
                };
                if BARRED.iter().any(barred) {
                    found.insert((file.clone(), path.join("::")));
                }
            }
            for token in tokens(source) {
                match token {
                    // However they came to be in scope.
                    Token::Name(name)
                        if matches!(name.as_str(), "Instant" | "SystemTime" | "tokio") =>
                    {
                        found.insert((file.clone(), name));
                    }
                    _ => {}
                }
            }
        }
        found.into_iter().collect()
    }
}

// ---------------------------------------------------------------------------------------------
// The house as it is

#[test]
fn imports_run_downwards_only() {
    let house = House::on_disk();
    let forbidden = house.forbidden_arrows();
    assert!(
        forbidden.is_empty(),
        "these must not be named there: {forbidden:#?}"
    );

    // Where nothing is found, nothing is shown.
    assert!(house.files.len() > 25, "{} files", house.files.len());
    let arrows = house.arrows();
    let seen = |from: Place, to: Place| {
        let mut arrows = arrows.iter();
        arrows.any(|((file, _), place)| House::place(file) == from && *place == to)
    };
    assert!(seen(Place::Lock, Place::Wire));
    assert!(seen(Place::Wire, Place::Wire));
    if house.files.contains_key("client/mod.rs") {
        assert!(seen(Place::Client, Place::Lock));
        assert!(seen(Place::Net, Place::Wire));
    }
}

#[test]
fn the_lower_floors_know_no_sockets_and_no_clock() {
    let named = House::on_disk().names_of_the_system();
    assert!(
        named.is_empty(),
        "time and bytes are arguments there: {named:#?}"
    );
}

// ---------------------------------------------------------------------------------------------
// Houses made up, to see that the check can fail

/// A house in order, with one more file or another source of one.
fn house_with(file: &str, source: &str) -> House {
    let mut house = House::made_of(&[
        (
            "lib.rs",
            "pub mod wire; pub mod lock; mod front; mod client;\n\
             pub use front::{Builder, error::LockError as Error};\n\
             pub use client::Client;",
        ),
        ("main.rs", "mod command; use memlatch::Client;"),
        ("wire/mod.rs", "mod key;"),
        (
            "wire/key.rs",
            "use super::Flight; use crate::wire::Request;",
        ),
        (
            "lock/mod.rs",
            "use crate::wire::Key; pub use self::items::X;",
        ),
        ("lock/items.rs", "use super::lease::Lease; use crate::wire;"),
        ("net/mod.rs", "use crate::wire::Flight;"),
        ("front/mod.rs", "use crate::{lock, net::Pool, wire::Key};"),
        (
            "error.rs",
            "use crate::lock::Failure; use crate::front::Cause;",
        ),
        (
            "client/mod.rs",
            "use crate::front::Site; use crate::{Builder, lock};",
        ),
        (
            "client/drive.rs",
            "use super::super::front; use super::Core;",
        ),
        ("blocking/mod.rs", "use crate::front::Site; use crate::net;"),
        ("server/mod.rs", "use crate::wire::Request; mod engine;"),
        (
            "fuzzing/mod.rs",
            "use crate::server::Server; use crate::lock;",
        ),
        ("seeded.rs", "use std::sync::OnceLock;"),
        (
            "command/mod.rs",
            "use crate::command::run; use super::command::serve;",
        ),
    ]);
    house.files.insert(file.to_owned(), source.to_owned());
    house
}

#[test]
fn a_house_in_order_has_no_forbidden_arrow() {
    let house = house_with("wire/empty.rs", "");
    assert_eq!(house.forbidden_arrows(), []);
    assert_eq!(house.names_of_the_system(), []);
}

#[test]
fn every_arrow_that_runs_up_or_sideways_is_found() {
    for (file, source, target) in [
        ("wire/key.rs", "use crate::lock::Lease;", "lock"),
        (
            "wire/key.rs",
            "fn f() -> crate::net::Pool { todo!() }",
            "net",
        ),
        ("wire/key.rs", "use super::super::lock;", "lock"),
        ("wire/mod.rs", "use super::lock::Lease;", "lock"),
        ("wire/mod.rs", "pub(in crate::lock) fn f() {}", "lock"),
        ("wire/key.rs", "use crate::*;", "*"),
        ("wire/key.rs", "use crate::Error;", "Error"),
        ("wire/deep/down.rs", "use super::super::super::net;", "net"),
        ("lock/items.rs", "use crate::{wire::Key, net::Pool};", "net"),
        (
            "lock/items.rs",
            "use crate::{wire::{Key, Keys}, front};",
            "front",
        ),
        (
            "lock/items.rs",
            "use {crate::client::Client, core::fmt};",
            "client",
        ),
        (
            "lock/items.rs",
            "use crate::{server as up, wire};",
            "server",
        ),
        ("lock/items.rs", "use crate::{self as root, wire};", "self"),
        (
            "lock/items.rs",
            "mod tests { use super::super::super::net; }",
            "net",
        ),
        (
            "lock/items.rs",
            "mod a { mod b {} use super::super::super::net; }",
            "net",
        ),
        ("lock/items.rs", "mod a {} use super::super::net;", "net"),
        (
            "lock/items.rs",
            "macro_rules! m { () => { $crate::net::f() } }",
            "net",
        ),
        (
            "lock/items.rs",
            "fn f<'a>(x: &'a str) { crate::error::g('\"') }",
            "error",
        ),
        (
            "lock/items.rs",
            "const S: &str = \"//\"; use crate::net;",
            "net",
        ),
        (
            "lock/items.rs",
            "const C: char = '\\''; use crate::net;",
            "net",
        ),
        (
            "lock/items.rs",
            "const R: &str = r#\"a\"b\"#; use crate::net;",
            "net",
        ),
        ("lock/items.rs", "/* /* */ */ use crate::net;", "net"),
        ("lock/items.rs", "use crate :: net;", "net"),
        ("lock/items.rs", "use crate::r#net;", "net"),
        ("net/pool.rs", "use crate::lock::Moment;", "lock"),
        ("net/pool.rs", "use crate::error::LockError;", "error"),
        ("front/site.rs", "use crate::client::Core;", "client"),
        ("front/site.rs", "use crate::Client;", "Client"),
        ("error.rs", "use crate::blocking::Client;", "blocking"),
        (
            "client/guard.rs",
            "use crate::blocking::Client;",
            "blocking",
        ),
        ("client/guard.rs", "use crate::server::Server;", "server"),
        ("client/guard.rs", "use crate::command;", "command"),
        ("blocking/guard.rs", "use crate::client::Client;", "client"),
        ("blocking/guard.rs", "use crate::Client;", "Client"),
        (
            "blocking/guard.rs",
            "impl From<crate::server::S> for G {}",
            "server",
        ),
        ("server/engine.rs", "use crate::client::Client;", "client"),
        ("server/engine.rs", "use crate::blocking;", "blocking"),
        ("server/engine.rs", "use crate::front::Cause;", "front"),
        ("server/engine.rs", "use crate::error::LockError;", "error"),
        (
            "main.rs",
            "mod command; fn main() { crate::client::f() }",
            "client",
        ),
        (
            "server/engine.rs",
            "use crate::fuzzing::TARGETS;",
            "fuzzing",
        ),
        ("fuzzing/reply.rs", "use crate::command::run;", "command"),
        ("seeded.rs", "use crate::wire::Key;", "wire"),
        ("seeded.rs", "use crate::lock::Lease;", "lock"),
        ("command/run.rs", "use crate::seeded::Bug;", "seeded"),
        ("command/run.rs", "use crate::lock::Lease;", "lock"),
        ("command/run.rs", "use super::super::wire;", "wire"),
        (
            "lib.rs",
            "pub use front::Builder; use crate::command::run;",
            "command",
        ),
    ] {
        let house = house_with(file, source);
        let expected = vec![(file.to_owned(), target.to_owned())];
        assert_eq!(house.forbidden_arrows(), expected, "{file}: {source}");
    }
}

#[test]
fn what_is_no_arrow_is_not_taken_for_one() {
    for (file, source) in [
        ("wire/key.rs", "// use crate::lock::Lease;"),
        (
            "wire/key.rs",
            "//! See [`Lock`](crate::Lock).\n/// And crate::net.",
        ),
        ("wire/key.rs", "/* crate::lock /* nested */ crate::net */"),
        (
            "wire/key.rs",
            "const S: &str = \"crate::lock \\\" crate::net\";",
        ),
        (
            "wire/key.rs",
            "const S: &[u8] = b\"crate::lock\"; const C: u8 = b'\"';",
        ),
        (
            "wire/key.rs",
            "const S: &str = r##\"crate::lock\"# crate::net\"##;",
        ),
        ("wire/key.rs", "pub(crate) fn f() {} extern crate alloc;"),
        (
            "wire/key.rs",
            "fn f(self) { self.lock; self::g(); lock::h(); }",
        ),
        (
            "wire/key.rs",
            "mod tests { use super::*; use super::super::Key; }",
        ),
        ("wire/key.rs", "use core::fmt; use lock::x;"),
        (
            "lock/mod.rs",
            "use self::lease::Lease; use crate::lock::items as net;",
        ),
        (
            "lock/items.rs",
            "mod a { mod b { use super::super::super::lease; } }",
        ),
        (
            "client/guard.rs",
            "use crate::{Builder as B, Error, error};",
        ),
        ("wire/key.rs", "fn f() { crate::seeded::Bug::A.planted(); }"),
        ("lock/items.rs", "use crate::seeded::Bug;"),
        ("net/pool.rs", "use crate::seeded::Bug;"),
        ("client/guard.rs", "use crate::seeded::Bug;"),
        (
            "server/engine.rs",
            "use crate::{lock::Lease, net::Address, wire};",
        ),
        (
            "command/run.rs",
            "use memlatch::lock::Lease; use super::args; crate::command::f();",
        ),
    ] {
        let house = house_with(file, source);
        assert_eq!(house.forbidden_arrows(), [], "{file}: {source}");
    }
}

#[test]
fn what_the_lower_floors_name_of_the_system_is_found() {
    for (source, name) in [
        ("use std::time::Instant;", "Instant"),
        ("use std::time::Instant;", "std::time::Instant"),
        (
            "use std::{fmt, time::{Duration, SystemTime}};",
            "SystemTime",
        ),
        ("fn f() { std::env::var(\"X\"); }", "std::env::var"),
        ("use std::net::TcpStream;", "std::net::TcpStream"),
        ("use ::std::fs;", "std::fs"),
        ("use std::{fs, fmt};", "std::fs"),
        ("use tokio::time;", "tokio"),
        ("async fn f() { tokio::spawn(g()); }", "tokio"),
    ] {
        for file in ["wire/key.rs", "lock/items.rs"] {
            let found = house_with(file, source).names_of_the_system();
            let expected = (file.to_owned(), name.to_owned());
            assert!(found.contains(&expected), "{source}: {found:?}");
        }
        // The floors above may.
        let found = house_with("net/dial.rs", source).names_of_the_system();
        assert_eq!(found, [], "{source}");
    }
    for harmless in [
        "// std::net, tokio, Instant",
        "const S: &str = \"tokio\";",
        "use core::time::Duration; use core::net::IpAddr; use alloc::vec;",
    ] {
        let found = house_with("lock/items.rs", harmless).names_of_the_system();
        assert_eq!(found, [], "{harmless}");
    }
}
