//! Options of the command line: `--name value` or `--name=value`, and switches. Each part of the
//! program takes those that it knows; `finish` rejects the rest.

use std::fmt::Display;
use std::str::FromStr;

/// The options that have not been taken yet.
pub struct Flags {
    given: Vec<String>,
}

impl Flags {
    pub fn new(arguments: impl Iterator<Item = String>) -> Self {
        let mut given = Vec::new();
        for argument in arguments {
            match argument.split_once('=') {
                Some((name, value)) if name.starts_with("--") => {
                    given.extend([name.to_owned(), value.to_owned()]);
                }
                _ => given.push(argument),
            }
        }
        Self { given }
    }

    /// Takes a switch: true when it was given.
    pub fn switch(&mut self, name: &str) -> bool {
        let place = self.given.iter().position(|word| word.strip_prefix("--") == Some(name));
        place.map(|place| self.given.remove(place)).is_some()
    }

    /// Takes an option's value, if it was given.
    pub fn value(&mut self, name: &str) -> Result<Option<String>, String> {
        let place = self.given.iter().position(|word| word.strip_prefix("--") == Some(name));
        let Some(place) = place else { return Ok(None) };
        if place + 1 >= self.given.len() {
            return Err(format!("--{name} needs a value"));
        }
        self.given.remove(place);
        Ok(Some(self.given.remove(place)))
    }

    /// Takes and parses an option's value, if it was given.
    pub fn parsed<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, String>
    where
        T::Err: Display,
    {
        let Some(text) = self.value(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|error| format!("--{name} {text}: {error}"))
    }

    /// Takes the first word that is not an option.
    pub fn word(&mut self) -> Option<String> {
        let first = self.given.first()?;
        (!first.starts_with('-')).then(|| self.given.remove(0))
    }

    /// Fails if anything has not been taken.
    pub fn finish(self) -> Result<(), String> {
        match self.given.first() {
            None => Ok(()),
            Some(word) => Err(format!("unknown argument \"{word}\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> Flags {
        Flags::new(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn takes_values_and_switches() {
        let mut flags = flags("fanout --rounds 3 --quick --size=64");
        assert!(flags.switch("quick"));
        assert!(!flags.switch("quick"));
        assert_eq!(flags.parsed::<u32>("rounds"), Ok(Some(3)));
        assert_eq!(flags.parsed::<usize>("size"), Ok(Some(64)));
        assert_eq!(flags.word().as_deref(), Some("fanout"));
        assert_eq!(flags.finish(), Ok(()));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert!(flags("--rounds").value("rounds").is_err());
        assert!(flags("--rounds x").parsed::<u32>("rounds").is_err());
        assert!(flags("--what").finish().is_err());
    }
}
