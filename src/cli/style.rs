//! Colours and bars, as the terminal and the locale allow.

use std::io::{self, IsTerminal};

/// Returns true if the terminal can do nothing but write line after line.
pub(super) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term == "dumb")
}

/// Colours, where they are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Styler(bool);

impl Styler {
    /// Colours for stdout if that is a terminal and <https://no-color.org> is not asked for.
    pub(super) fn for_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(!refused && !is_dumb() && io::stdout().is_terminal())
    }

    fn wrap(self, style: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.wrap("31", text)
    }

    pub(super) fn faint(self, text: &str) -> String {
        self.wrap("2", text)
    }
}

/// Characters that bars are drawn with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Glyphs {
    Blocks,
    Ascii,
}

impl Glyphs {
    /// Blocks where the locale says that text is UTF-8.
    pub(super) fn of_the_locale() -> Self {
        // The first that is set counts, as setlocale(3) has it.
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .filter_map(std::env::var_os)
            .find(|value| !value.is_empty());
        Self::of(&locale.unwrap_or_default().to_string_lossy())
    }

    fn of(locale: &str) -> Self {
        let locale = locale.to_ascii_lowercase();
        if locale.contains("utf-8") || locale.contains("utf8") {
            Self::Blocks
        } else {
            Self::Ascii
        }
    }

    /// The mark where a text was shortened.
    pub(super) const fn mark(self) -> &'static str {
        match self {
            Self::Blocks => "\u{2026}",
            Self::Ascii => "...",
        }
    }

    /// A bar of this width, of which a part is filled.
    pub(super) fn bar(self, part: f64, width: usize) -> String {
        let (full, empty) = match self {
            Self::Blocks => ("\u{2588}", "\u{2591}"),
            Self::Ascii => ("#", "-"),
        };
        let filled = (part.clamp(0.0, 1.0) * width as f64).round() as usize;
        let filled = filled.min(width);
        full.repeat(filled) + &empty.repeat(width - filled)
    }

    /// A bar of this length.
    pub(super) fn line(self, length: usize) -> String {
        match self {
            Self::Blocks => "\u{2588}".repeat(length),
            Self::Ascii => "#".repeat(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_use_the_terminals_characters() {
        for locale in ["en_US.UTF-8", "C.utf8", "de_DE.UTF-8@euro"] {
            assert_eq!(Glyphs::of(locale), Glyphs::Blocks);
        }
        for locale in ["", "C", "POSIX", "de_DE.ISO-8859-1"] {
            assert_eq!(Glyphs::of(locale), Glyphs::Ascii);
        }
        for (part, bar) in [
            (0.0, "----"),
            (0.5, "##--"),
            (1.0, "####"),
            (7.0, "####"),
            (-1.0, "----"),
            (f64::NAN, "----"),
        ] {
            assert_eq!(Glyphs::Ascii.bar(part, 4), bar);
        }
        assert_eq!(Glyphs::Blocks.bar(0.5, 2), "\u{2588}\u{2591}");
        assert_eq!(Glyphs::Ascii.line(3), "###");
    }
}
