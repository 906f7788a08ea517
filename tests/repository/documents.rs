//! The tests, files and events that the documents name exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Everything between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// True if this can only be the name of a test: many words and nothing else.
fn is_test_name(word: &str) -> bool {
    word.matches('_').count() >= 3
        && word
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn sources(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&fs::read_to_string(path).expect("text"));
        }
    }
}

/// The safety page says of each promise and each hazard which test shows it.
#[test]
fn documents_name_only_existing_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    for folder in ["src", "tests"] {
        sources(&root.join(folder), &mut code);
    }
    let mut named = BTreeSet::new();
    let mut missing = Vec::new();
    for document in fs::read_dir(root.join("docs")).expect("a folder") {
        let path = document.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("text");
        for name in quoted(&text).filter(|word| is_test_name(word)) {
            named.insert(name.to_owned());
            if !code.contains(&format!("fn {name}(")) {
                missing.push(format!("{}: {name}", path.display()));
            }
        }
        for script in quoted(&text).filter(|word| word.starts_with("scripts/")) {
            let script = script.split(' ').next().unwrap_or(script);
            if !root.join(script).exists() {
                missing.push(format!("{}: {script}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(named.len() > 60, "only {} tests are named", named.len());
}

#[test]
fn promises_and_hazards_name_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/safety.md")).expect("text");
    let mut section = "";
    let (mut promises, mut hazards) = (0, 0);
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title;
        }
        let header = line.starts_with("| | ") || line.starts_with("| hazard ");
        let row = line.starts_with("| ") && !header;
        let counter = match section {
            "Promises" => &mut promises,
            "Hazards" => &mut hazards,
            _ => continue,
        };
        if row {
            *counter += 1;
            let shown = line
                .trim_end_matches('|')
                .rsplit('|')
                .next()
                .expect("cells");
            let names =
                quoted(shown).any(|word| is_test_name(word) || word.starts_with("scripts/"));
            assert!(names, "no test is named: {line}");
        }
    }
    assert!(
        promises >= 8 && hazards >= 23,
        "{promises} promises, {hazards} hazards"
    );
}

/// Counts in `docs/performance.md` are those of the file that `scripts/instructions` writes. A ratio is
/// that to `decode/hd-cas`.
#[test]
fn performance_page_matches_counts_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path| fs::read_to_string(root.join(path)).expect("text");
    let counts = read("benches/instructions.txt");
    let count = |case: &str| {
        let mut lines = counts.lines();
        let found = lines.find_map(|line| line.strip_prefix(case)?.strip_prefix(' '));
        found.and_then(|count| count.parse::<f64>().ok())
    };
    let base = count("decode/hd-cas").expect("counted");
    let mut compared = 0;
    for line in read("docs/performance.md").lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let case = cells.get(2).map(|cell| cell.trim_matches('`'));
        let Some(counted) = case.and_then(count) else {
            continue;
        };
        let is = cells[3];
        let expected = if is.contains('.') {
            format!("{:.1}", counted / base)
        } else {
            format!("{counted}")
        };
        assert_eq!(is, expected, "{line}");
        compared += 1;
    }
    assert!(compared >= 15, "only {compared} counts are compared");
}
