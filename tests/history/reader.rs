//! All files of a history, read again.

use super::event::{BadLine, Event, Fate, What};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::{fs, io};

/// The error of a history that cannot be read.
#[derive(Debug)]
pub enum ReadError {
    Io(io::Error),
    Line(BadLine),
    /// The last line of a process that was not killed is not whole.
    Torn(String),
}

/// Splits what one process wrote. The last line may not be whole; it is returned separately then.
pub fn parse(text: &str) -> Result<(Vec<Event>, Option<&str>), BadLine> {
    let (whole, torn) = match text.rfind('\n') {
        Some(end) => text.split_at(end + 1),
        None => ("", text),
    };
    let events = whole.lines().map(str::parse).collect::<Result<_, _>>()?;
    Ok((events, (!torn.is_empty()).then_some(torn)))
}

/// Reads all histories in a folder, each in its order.
///
/// A killed process may leave a line that is not whole, and nothing is made of it.
pub fn read(folder: &Path) -> Result<Vec<Event>, ReadError> {
    let mut events = Vec::new();
    let mut torn = Vec::new();
    for entry in fs::read_dir(folder).map_err(ReadError::Io)? {
        let path = entry.map_err(ReadError::Io)?.path();
        if path.extension() != Some(OsStr::new("history")) {
            continue;
        }
        let bytes = fs::read(&path).map_err(ReadError::Io)?;
        let text = String::from_utf8_lossy(&bytes);
        let (read, rest) = parse(&text).map_err(ReadError::Line)?;
        events.extend(read);
        if let Some(rest) = rest {
            let process = path.file_stem().and_then(OsStr::to_str);
            torn.push((process.unwrap_or_default().to_owned(), rest.to_owned()));
        }
    }
    let killed: BTreeSet<String> = events
        .iter()
        .filter(|event| event.what == What::Process(Fate::Killed))
        .map(|event| event.process.to_string())
        .collect();
    match torn.into_iter().find(|(who, _)| !killed.contains(who)) {
        Some((_, line)) => Err(ReadError::Torn(line)),
        None => Ok(events),
    }
}
