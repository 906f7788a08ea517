//! The transcripts.

use std::path::Path;

/// The versions there are transcripts of.
pub(crate) const VERSIONS: [&str; 3] = ["1.6.18", "1.6.38", NEWEST];

/// The version whose behaviour the request parser and the embedded server have.
pub(crate) const NEWEST: &str = "1.6.45";

/// One row.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The options of the server.
    pub(crate) args: String,
    /// What was sent on another connection before.
    pub(crate) setup: Vec<u8>,
    pub(crate) request: Vec<u8>,
    pub(crate) response: Vec<u8>,
    /// `open`, `eof` or `rst`.
    pub(crate) after: String,
    /// Or `(no answer)`, or `eof`, as text.
    pub(crate) answer_to_mn: Vec<u8>,
}

/// The rows of one version.
pub(crate) fn cases(version: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/corpus");
    let text = std::fs::read_to_string(path.join(format!("{version}.tsv"))).expect("the corpus");
    let cases: Vec<Case> = text
        .lines()
        .skip(1)
        .map(|line| {
            let mut columns = line.split('\t');
            let mut next = || columns.next().unwrap_or("");
            let (name, args) = (next().to_string(), next().to_string());
            Case {
                name,
                args,
                setup: unescape(next()),
                request: unescape(next()),
                response: unescape(next()),
                after: next().trim().to_string(),
                answer_to_mn: unescape(next().trim()),
            }
        })
        .collect();
    assert!(cases.len() > 200, "{version} is cut short");
    cases
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte != b'\\' {
            bytes.push(*byte);
            continue;
        }
        let (kind, tail) = rest.split_first().expect("something behind a backslash");
        rest = tail;
        bytes.push(match kind {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'\\' => b'\\',
            b'x' => {
                let (digits, tail) = rest.split_at(2);
                rest = tail;
                let digits = core::str::from_utf8(digits).expect("hex digits");
                u8::from_str_radix(digits, 16).expect("hex digits")
            }
            other => panic!("\\{} in the corpus", other.escape_ascii()),
        });
    }
    bytes
}
