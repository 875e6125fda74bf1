//! Typed access to a table of a system file, with errors that name file, key, what was wrong and what is allowed.

use super::units;
use crate::status;
use std::ops::RangeInclusive;
use toml::{Table, Value};

/// A table of a system file, and where it is.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    file: &'a str,
    path: String,
    table: &'a Table,
}

impl<'a> Section<'a> {
    /// The whole file.
    #[must_use]
    pub const fn whole(file: &'a str, table: &'a Table) -> Self {
        Self { file, path: String::new(), table }
    }

    /// The dotted path of `key` here.
    #[must_use]
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// An error about `key`.
    #[must_use]
    pub fn wrong(&self, key: &str, what: &str, allowed: &str) -> anyhow::Error {
        status::usage(format!("{}: `{}`: {what}; allowed: {allowed}", self.file, self.path_of(key)))
    }

    /// Refuses every key that is not in `known`.
    ///
    /// # Errors
    /// The first unknown key, with the known ones.
    pub fn only(&self, known: &[&str]) -> anyhow::Result<()> {
        match self.table.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(self.wrong(key, "unknown key", &known.join(", "))),
        }
    }

    /// The keys that are there, in the order of the file.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.table.keys().map(String::as_str)
    }

    /// The value of `key`, if it is there.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        self.table.get(key)
    }

    /// The table under `key`; an empty one when it is not there.
    ///
    /// # Errors
    /// A value that is no table.
    pub fn table(&self, key: &str) -> anyhow::Result<Section<'a>> {
        static EMPTY: std::sync::LazyLock<Table> = std::sync::LazyLock::new(Table::new);
        let table = match self.table.get(key) {
            None => &EMPTY,
            Some(Value::Table(table)) => table,
            Some(other) => return Err(self.wrong(key, &format!("{other} is no table"), "a table")),
        };
        Ok(Section { file: self.file, path: self.path_of(key), table })
    }

    /// The text under `key`, if it is there.
    ///
    /// # Errors
    /// A value that is no text.
    pub fn text(&self, key: &str) -> anyhow::Result<Option<&'a str>> {
        match self.table.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, &format!("{other} is no text"), "text in quotes")),
        }
    }

    /// The text under `key`, which must be there.
    ///
    /// # Errors
    /// A missing key, or a value that is no text.
    pub fn needed(&self, key: &str, allowed: &str) -> anyhow::Result<&'a str> {
        self.text(key)?.ok_or_else(|| self.wrong(key, "missing", allowed))
    }

    /// Yes or no; no when it is not there.
    ///
    /// # Errors
    /// Any other value.
    pub fn yes(&self, key: &str) -> anyhow::Result<bool> {
        match self.table.get(key) {
            None => Ok(false),
            Some(Value::Boolean(yes)) => Ok(*yes),
            Some(other) => Err(self.wrong(key, &format!("{other}"), "true or false")),
        }
    }

    /// A whole number within `range`; `default` when it is not there.
    ///
    /// # Errors
    /// Any other value.
    pub fn number(&self, key: &str, range: RangeInclusive<i64>, default: i64) -> anyhow::Result<i64> {
        match self.table.get(key) {
            None => Ok(default),
            Some(Value::Integer(number)) if range.contains(number) => Ok(*number),
            Some(other) => Err(self.wrong(
                key,
                &format!("{other}"),
                &format!("a whole number from {} to {}", range.start(), range.end()),
            )),
        }
    }

    /// A size in frames, which must be there.
    ///
    /// # Errors
    /// A missing key, or a value that is no size of whole frames.
    pub fn frames(&self, key: &str) -> anyhow::Result<u32> {
        let text = self.needed(key, units::SIZE)?;
        let frames = units::frames(text).and_then(|frames| u32::try_from(frames).ok());
        frames.ok_or_else(|| self.wrong(key, &format!("\"{text}\" is no size of whole 4 KiB frames"), units::SIZE))
    }

    /// A list of texts; empty when it is not there. A single text is a list of one.
    ///
    /// # Errors
    /// Any other value.
    pub fn texts(&self, key: &str) -> anyhow::Result<Vec<&'a str>> {
        let list = match self.table.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::String(text)) => return Ok(vec![text]),
            Some(Value::Array(list)) => list,
            Some(other) => return Err(self.wrong(key, &format!("{other} is no list"), "a list of texts in quotes")),
        };
        list.iter()
            .map(|item| {
                item.as_str().ok_or_else(|| self.wrong(key, &format!("{item} is no text"), "a list of texts in quotes"))
            })
            .collect()
    }

    /// `text` as a bounded string of the manifest.
    ///
    /// # Errors
    /// One that is too long.
    pub fn bounded<const N: usize>(&self, key: &str, text: &str) -> anyhow::Result<heapless::String<N>> {
        heapless::String::try_from(text)
            .map_err(|_| self.wrong(key, &format!("\"{text}\" is too long"), &format!("at most {N} bytes")))
    }

    /// `items` as a bounded list of the manifest.
    ///
    /// # Errors
    /// Too many.
    pub fn list<T, const N: usize>(
        &self,
        key: &str,
        items: impl IntoIterator<Item = T>,
    ) -> anyhow::Result<heapless::Vec<T, N>> {
        let mut list = heapless::Vec::new();
        for item in items {
            list.push(item).map_err(|_| self.wrong(key, "too many", &format!("at most {N}")))?;
        }
        Ok(list)
    }
}
