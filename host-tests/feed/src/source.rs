//! An input, and what its user says of it.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use portcullis_threat::Category;

use crate::{Error, Format, day};

/// What a feed is for
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It lists threats
    Deny,
    /// It lists what is known to be good: targets on it are `benign`
    Allow,
    /// It lists what must not be condemned as a whole; nothing of it is in the bundle
    Guard,
}

impl Role {
    /// With the words that manifests use
    pub const WORDS: [(&str, Self); 3] = [
        ("deny", Self::Deny),
        ("allow", Self::Allow),
        ("guard", Self::Guard),
    ];
}

/// An input, and what its user says of it; what he doesn't say follows from its format
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Source {
    /// The file, a folder (MISP), or `-`
    pub path: PathBuf,
    /// The name in verdicts
    pub name: Option<String>,
    /// An SPDX expression
    pub licence: Option<String>,
    /// Instead of what its content looks like
    pub format: Option<Format>,
    /// What it is for
    pub role: Option<Role>,
    /// Of rows that don't say
    pub category: Option<Category>,
    /// Of rows that don't say, in per cent
    pub confidence: Option<u8>,
    /// From which confidence on rows may be blocked on
    pub block_from: Option<u8>,
    /// When it was fetched, in seconds since 1970
    pub fetched_at: Option<u64>,
    /// How long it is current, in hours
    pub validity_hours: Option<u32>,
    /// Rows that were last seen longer ago are left out, in days
    pub max_age_days: Option<u16>,
    /// Only so many of its rows are read
    pub top: Option<usize>,
}

impl Source {
    /// From the command line: `PATH`, or `NAME=..,LICENCE=..:PATH`
    ///
    /// # Errors
    ///
    /// When a setting is unknown or its value makes no sense.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let settings = text.split_once(':').filter(|(settings, _)| {
            let key = settings.split_once('=').map(|(key, _)| key);
            key.is_some_and(|key| {
                key.bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
            })
        });
        let Some((settings, path)) = settings else {
            return Ok(Self::at(text));
        };
        let mut source = Self::at(path);
        for setting in settings.split(',') {
            let (key, value) = setting
                .split_once('=')
                .ok_or_else(|| Error::new(format!("`{setting}`: write KEY=VALUE")))?;
            source.set(&key.to_ascii_lowercase(), value)?;
        }
        Ok(source)
    }

    fn at(path: &str) -> Self {
        Self {
            path: PathBuf::from(path),
            ..Self::default()
        }
    }

    /// Sets one of the settings by its name in manifests
    ///
    /// # Errors
    ///
    /// When it is unknown, or its value makes no sense.
    pub(crate) fn set(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let wrong = |what: &str| Error::new(format!("{key}: `{value}` is not {what}"));
        let per_cent = || {
            let number = value.parse::<u8>().ok().filter(|number| *number <= 100);
            number.ok_or_else(|| wrong("a number from 0 to 100"))
        };
        match key {
            "name" => self.name = Some(value.to_owned()),
            "licence" => self.licence = Some(value.to_owned()),
            "format" => {
                let format = Format::named(value);
                self.format =
                    Some(format.ok_or_else(|| wrong(&one_of(Format::ALL.map(Format::word))))?);
            }
            "role" => {
                let role = Role::WORDS.iter().find(|(word, _)| *word == value);
                let (_, role) =
                    role.ok_or_else(|| wrong(&one_of(Role::WORDS.map(|(word, _)| word))))?;
                self.role = Some(*role);
            }
            "category" => {
                let category = Category::WORDS.iter().find(|(word, _)| *word == value);
                let words = Category::WORDS.iter().map(|(word, _)| *word);
                let (_, category) = category.ok_or_else(|| wrong(&one_of(words)))?;
                self.category = Some(*category);
            }
            "confidence" => self.confidence = Some(per_cent()?),
            "block_from" => self.block_from = Some(per_cent()?),
            "fetched_at" => {
                let time = value.parse().ok().or_else(|| day::seconds(value));
                self.fetched_at =
                    Some(time.ok_or_else(|| wrong("a time like 2026-11-22T01:02:03Z"))?);
            }
            "validity_hours" => {
                let hours = value.parse().map_err(|_| wrong("a number of hours"))?;
                self.validity_hours = Some(hours);
            }
            "max_age_days" => {
                let days = value.parse().map_err(|_| wrong("a number of days"))?;
                self.max_age_days = Some(days);
            }
            "top" => self.top = Some(value.parse().map_err(|_| wrong("a number of rows"))?),
            _ => {
                return Err(Error::new(format!(
                    "`{key}` is not a setting of a feed: {SETTINGS}"
                )));
            }
        }
        Ok(())
    }

    /// What the input holds
    ///
    /// # Errors
    ///
    /// When it can't be read.
    pub(crate) fn bytes(&self) -> Result<Vec<Vec<u8>>, Error> {
        let fails =
            |path: &Path, error: &io::Error| Error::new(format!("{}: {error}", path.display()));
        if self.path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            let read = io::stdin().lock().read_to_end(&mut bytes);
            return read
                .map(|_| vec![bytes])
                .map_err(|error| fails(&self.path, &error));
        }
        if !self.path.is_dir() {
            let read = fs::read(&self.path);
            return read
                .map(|bytes| vec![bytes])
                .map_err(|error| fails(&self.path, &error));
        }
        // A MISP feed is a folder: a manifest, and a file an event.
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(|error| fails(&self.path, &error))? {
            let path = entry.map_err(|error| fails(&self.path, &error))?.path();
            let is_event = path
                .extension()
                .is_some_and(|extension| extension == "json")
                && path.file_stem().is_some_and(|stem| stem != "manifest");
            if is_event {
                files.push(path);
            }
        }
        files.sort();
        if files.is_empty() {
            let path = self.path.display();
            return Err(Error::new(format!(
                "{path}: a folder without events (*.json)"
            )));
        }
        let read = |path: &PathBuf| fs::read(path).map_err(|error| fails(path, &error));
        files.iter().map(read).collect()
    }

    /// The name of the file without its extension
    pub(crate) fn stem(&self) -> String {
        let stem = self
            .path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned());
        let printable = |c: char| c.is_ascii_graphic();
        let stem: String = stem
            .unwrap_or_default()
            .chars()
            .filter(|c| printable(*c))
            .take(48)
            .collect();
        if stem.is_empty() || stem == "-" {
            "feed".to_owned()
        } else {
            stem
        }
    }
}

const SETTINGS: &str = "name, licence, format, role, category, confidence, block_from, fetched_at, \
    validity_hours, max_age_days, top";

fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.into_iter().collect();
    format!("one of {}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_command_line_says() {
        let source =
            Source::parse("NAME=mine,LICENCE=CC0-1.0,CATEGORY=phishing,BLOCK_FROM=90:a:b.txt")
                .unwrap();
        assert_eq!(source.path, PathBuf::from("a:b.txt"));
        assert_eq!(source.name.as_deref(), Some("mine"));
        assert_eq!(source.category, Some(Category::Phishing));
        assert_eq!(source.block_from, Some(90));
        for plain in ["a=b.txt", "C:feeds.txt", "./A=1.txt", "-"] {
            assert_eq!(Source::parse(plain).unwrap(), Source::at(plain));
        }
        for wrong in [
            "NAM=x:a",
            "CONFIDENCE=101:a",
            "ROLE=x:a",
            "FORMAT=x:a",
            "TOP=x:a",
            "NAME=x,y:a",
        ] {
            assert!(Source::parse(wrong).is_err(), "{wrong}");
        }
    }
}
