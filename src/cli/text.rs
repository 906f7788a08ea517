//! Text on a terminal: characters that are not what they seem, and how wide the others are.

use core::fmt::Write;
use serde_json::Value;
use std::borrow::Cow;
use std::io::{self, IsTerminal};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The width of a terminal that does not know its own.
const USUAL_WIDTH: usize = 80;

/// Returns `true` if a terminal shows this character as itself and leaves all others where they
/// are.
///
/// Not so are controls, characters that turn the direction of writing, joiners, invisible spaces,
/// private and unassigned characters.
fn is_plain(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // The standard library knows them. Behind a letter, it leaves accents as they are.
    let behind_a_letter: String = ['a', c].into_iter().collect();
    behind_a_letter.escape_debug().count() == 2
}

/// `text` with all characters written out that are not plain, so that neither names nor records of
/// others can break lines or steer a terminal.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) {
            line.push(c);
        } else {
            line.extend(c.escape_default());
        }
    }
    line
}

/// A JSON value as one line, in which strings hold no character that is not plain.
pub(super) fn json_line(value: &Value) -> String {
    let mut line = String::new();
    for c in value.to_string().chars() {
        if is_plain(c) {
            line.push(c);
        } else {
            // Such characters stand within strings alone.
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing into a string does not fail.
                let _ = write!(line, "\\u{unit:04x}");
            }
        }
    }
    line.push('\n');
    line
}

/// The number of columns of standard output, if it is a terminal.
pub(super) fn terminal_width() -> Option<usize> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(out);
    Some(match size.map_or(0, |size| usize::from(size.ws_col)) {
        0 => USUAL_WIDTH,
        columns => columns,
    })
}

/// The number of columns that a text takes.
pub(super) fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// The text with spaces behind it, so that it takes so many columns.
pub(super) fn padded(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(width(text));
    format!("{text}{:missing$}", "")
}

/// The place where a text is shortened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Middle,
    End,
}

/// The text in at most so many columns, with `mark` in place of what is left out.
pub(super) fn fitted<'a>(text: &'a str, columns: usize, cut: Cut, mark: &str) -> Cow<'a, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let Some(left) = columns.checked_sub(width(mark)) else {
        return Cow::Owned(".".repeat(columns));
    };
    let behind = match cut {
        Cut::Middle => left / 2,
        Cut::End => 0,
    };
    let begin = begin_of(text, left - behind);
    let end = end_of(&text[begin.len()..], behind);
    Cow::Owned([begin, mark, end].concat())
}

/// The columns of one character. One that asks for a picture makes the one before it wider.
fn columns_of(c: char) -> usize {
    match c {
        '\u{fe0f}' => 1,
        c => UnicodeWidthChar::width(c).unwrap_or(0),
    }
}

fn begin_of(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    let end = text.char_indices().find(|(_, c)| {
        taken += columns_of(*c);
        taken > columns
    });
    &text[..end.map_or(text.len(), |(at, _)| at)]
}

fn end_of(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    let mut begin = text.len();
    for (at, c) in text.char_indices().rev() {
        taken += columns_of(c);
        if taken > columns {
            break;
        }
        // Not in front of an accent, which belongs to the character before.
        if columns_of(c) > 0 {
            begin = at;
        }
    }
    &text[begin..]
}

/// The text in lines of at most so many columns, broken at spaces; all but the first begin with
/// `indent` spaces. A word that is longer than a line has one of its own.
pub(super) fn wrapped(text: &str, columns: usize, indent: usize) -> String {
    let mut lines = String::new();
    // Spaces that a line begins with, or that make columns of it, stay as they are.
    let mut used = 0;
    for word in text.split_inclusive(' ') {
        if word == " " && used == indent && lines.ends_with(' ') && lines.contains('\n') {
            // The second of two spaces, at the end of the line before.
            continue;
        }
        let needed = width(word.trim_end_matches(' '));
        if used > indent && used + needed > columns {
            lines.truncate(lines.trim_end_matches(' ').len());
            let _ = write!(lines, "\n{:indent$}", "");
            used = indent;
        }
        lines.push_str(word);
        used += width(word);
    }
    lines.truncate(lines.trim_end_matches(' ').len());
    lines
}

/// `a, b or c`.
pub(super) fn enumeration(names: &[String], conjunction: &str) -> String {
    match names {
        [] => String::new(),
        [name] => name.clone(),
        [names @ .., last] => format!("{} {conjunction} {last}", names.join(", ")),
    }
}

/// Long text without its middle: it is an argument of the user, and the error surrounds it.
pub(super) fn shortened(text: &str) -> String {
    const ENDS: usize = 300;
    let length = text.chars().count();
    if length <= 2 * ENDS {
        return text.to_owned();
    }
    let begin = text.chars().take(ENDS);
    begin
        .chain(" … ".chars())
        .chain(text.chars().skip(length - ENDS))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_end_with_a_conjunction() {
        let named = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            enumeration(&names, "or")
        };
        assert_eq!(named(&[]), "");
        assert_eq!(named(&["a"]), "a");
        assert_eq!(named(&["a", "b", "c"]), "a, b or c");
    }
    use serde_json::json;

    #[test]
    fn one_line_escapes_control_characters() {
        assert_eq!(one_line("a\r\nb\x1b[31m"), "a\\r\\nb\\u{1b}[31m");
        for c in [
            '\u{7f}',
            '\u{85}',
            '\u{9b}',
            '\u{a0}',
            '\u{ad}',
            '\u{61c}',
            '\u{180e}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{2028}',
            '\u{2029}',
            '\u{202a}',
            '\u{202e}',
            '\u{2066}',
            '\u{2069}',
            '\u{feff}',
            '\u{fff9}',
            '\u{e000}',
            '\u{e0001}',
            '\u{10ffff}',
        ] {
            let line = one_line(&format!("a{c}b"));
            assert_eq!(line, format!("a\\u{{{:x}}}b", u32::from(c)));
            let json = json_line(&json!({ "name": format!("a{c}b") }));
            assert!(json.is_ascii() && !json.contains('\x7f'), "{json}");
            let back: Value = serde_json::from_str(&json).expect("JSON");
            assert_eq!(back["name"], format!("a{c}b"));
        }
        for text in ["Rüdiger's \"lock\"", "e\u{301}", "日本\\語", "🔒"] {
            assert_eq!(one_line(text), text);
            assert!(
                json_line(&json!(text)).contains(text.trim_matches(['"', '\\']))
                    || text.contains(['"', '\\'])
            );
        }
    }

    #[test]
    fn fitted_text_fills_its_columns() {
        for (text, columns, cut, expected) in [
            ("abc", 3, Cut::Middle, "abc"),
            ("abcdefgh", 5, Cut::Middle, "ab…gh"),
            ("abcdefgh", 6, Cut::Middle, "abc…gh"),
            ("abcdefgh", 5, Cut::End, "abcd…"),
            ("abcdefgh", 1, Cut::End, "…"),
            ("abcdefgh", 0, Cut::End, ""),
            ("日本語日本語", 6, Cut::Middle, "日…語"),
            ("日本語日本語", 5, Cut::End, "日本…"),
            (
                "e\u{301}e\u{301}e\u{301}e\u{301}",
                3,
                Cut::Middle,
                "e\u{301}…e\u{301}",
            ),
        ] {
            let fitted = fitted(text, columns, cut, "…");
            assert_eq!(fitted, expected, "{text} {columns}");
            assert!(width(&fitted) <= columns);
        }
        assert_eq!(fitted("abcdefgh", 6, Cut::Middle, "..."), "ab...h");
        assert_eq!(fitted("abcdefgh", 2, Cut::Middle, "..."), "..");
        assert_eq!(padded("日", 4), "日  ");
    }

    #[test]
    fn wrapped_lines_break_at_spaces() {
        assert_eq!(wrapped("one two three", 9, 2), "one two\n  three");
        assert_eq!(wrapped("one two three", 80, 2), "one two three");
        assert_eq!(wrapped("179605123456789 x", 4, 1), "179605123456789\n x");
        assert_eq!(wrapped("  key     value", 9, 4), "  key\n    value");
        assert_eq!(wrapped("name  held by me", 8, 2), "name\n  held\n  by me");
        assert_eq!(wrapped("", 4, 2), "");
    }
}
