//! The arguments of the two programs: `--name value` pairs, and words.

use crate::{Result, Servers};
use std::collections::HashMap;

/// The arguments of a program.
#[derive(Debug, Default)]
pub struct Arguments {
    options: HashMap<String, String>,
    words: std::collections::VecDeque<String>,
}

impl Arguments {
    /// # Errors
    /// The last option has no value.
    pub fn read() -> Result<Self> {
        let mut all = Self::default();
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.strip_prefix("--") {
                Some(name) => {
                    let value = arguments.next().ok_or("an option has no value")?;
                    all.options.insert(name.to_owned(), value);
                }
                None => all.words.push_back(argument),
            }
        }
        Ok(all)
    }

    /// # Errors
    /// There is none.
    pub fn word(&mut self, what: &str) -> Result<String> {
        let word = self.words.pop_front();
        word.ok_or_else(|| format!("{what} is missing").into())
    }

    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// The number of this option, or the usual one.
    ///
    /// # Errors
    /// It is no number.
    pub fn number(&self, name: &str, usual: u64) -> Result<u64> {
        self.option(name).map_or(Ok(usual), |text| {
            text.parse()
                .map_err(|_| format!("--{name} takes a number, not {text}").into())
        })
    }

    /// # Errors
    /// No memcached server is named.
    pub fn servers(&self) -> Result<Servers> {
        let words = |text: &str| text.split(' ').map(ToOwned::to_owned).collect();
        Ok(Servers {
            memcached: self
                .option("memcached")
                .ok_or("--memcached host:port?")?
                .into(),
            redis: self.option("redis").map(ToOwned::to_owned),
            pymemcache: self.option("pymemcache").map(words),
        })
    }
}
