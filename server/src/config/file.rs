//! Reads the configuration file: TOML, of which only known settings are accepted.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::load::{ConfigError, Place, hint};
use super::setting::{Section, Setting};

/// One value of the file, written as a flag would be.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) text: String,
    pub(super) place: Place,
}

/// The settings of a file by their keys.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Entry>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::ReadFile { path: path.to_owned(), source })?;
    let file = File { path, text: &text };
    let table = DeTable::parse(&text).map_err(|error| ConfigError::Syntax {
        place: file.place(error.span().map_or(0, |span| span.start)),
        what: error.message().to_owned(),
    })?;
    let mut entries = BTreeMap::new();
    file.collect("", table.get_ref(), &mut entries)?;
    Ok(entries)
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn place(&self, offset: usize) -> Place {
        let line = self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
        Place::File { path: self.path.to_owned(), line }
    }

    /// Adds the settings of a table. Only sections may be tables, so this is at most two deep.
    fn collect(
        &self,
        prefix: &str,
        table: &DeTable<'_>,
        entries: &mut BTreeMap<String, Entry>,
    ) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            let place = self.place(name.span().start);
            if Setting::by_key(&key).is_some() {
                entries.insert(key, Entry { text: self.text_of(value), place });
            } else if let (true, Some(section)) = (is_section(&key), value.get_ref().as_table()) {
                self.collect(&format!("{key}."), section, entries)?;
            } else {
                let hint = hint(&key, Setting::key);
                return Err(ConfigError::Unknown { place, key, hint });
            }
        }
        Ok(())
    }

    /// A string's content, a decimal number's digits, and anything else as it stands in the file, for
    /// the setting to refuse.
    fn text_of(&self, value: &Spanned<DeValue<'_>>) -> String {
        match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
            _ => self.text[value.span()].to_owned(),
        }
    }
}

fn is_section(key: &str) -> bool {
    Section::all().iter().any(|section| !section.is_top() && section.name == key)
}
