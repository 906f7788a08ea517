//! Files that a user names, read without trust in their length.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The text in a file of at most so many bytes, without a byte order mark. What the file holds is
/// in no error.
pub(super) fn read_text(path: &Path, longest: u64) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let read = file.take(longest + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > longest {
        return Err(format!("it is longer than {longest} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not text in UTF-8".to_owned())?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(text) => text.to_owned(),
        None => text,
    })
}
