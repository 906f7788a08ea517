//! As much of JSON as the results need: objects of numbers, texts and lists of numbers.

use std::fmt::{Display, Write};

/// An object being written.
#[derive(Debug, Default)]
pub struct Object(String);

impl Object {
    fn key(&mut self, key: &str) -> &mut String {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        // Writing to a string does not fail.
        let _ = write!(self.0, "{key:?}:");
        &mut self.0
    }

    #[must_use]
    pub fn number(mut self, key: &str, number: impl Display) -> Self {
        let _ = write!(self.key(key), "{number}");
        self
    }

    #[must_use]
    pub fn text(mut self, key: &str, text: &str) -> Self {
        let _ = write!(self.key(key), "\"{}\"", text.escape_default());
        self
    }

    #[must_use]
    pub fn numbers<T: Display>(mut self, key: &str, numbers: &[T]) -> Self {
        let list: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        let _ = write!(self.key(key), "[{}]", list.join(","));
        self
    }

    #[must_use]
    pub fn end(mut self) -> String {
        if self.0.is_empty() {
            self.0.push('{');
        }
        self.0.push('}');
        self.0
    }
}
