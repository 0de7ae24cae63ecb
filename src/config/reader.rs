//! Reads one section and remembers what is wrong with it.

use super::ConfigError;
use super::setting::Setting;
use std::collections::BTreeMap;

/// What is wrong with the settings so far.
#[derive(Default)]
pub(super) struct Mistakes(Vec<String>);

impl Mistakes {
    pub(super) fn add(&mut self, mistake: String) {
        self.0.push(mistake);
    }

    /// Gives `value` when there was no mistake.
    pub(super) fn finish<T>(self, value: T) -> Result<T, ConfigError> {
        if self.0.is_empty() { Ok(value) } else { Err(ConfigError::Mistakes(self.0)) }
    }
}

/// The environment variables of the process, by name.
pub(super) type Environment = BTreeMap<String, String>;

/// One section of the file, with the environment on top. Dropping it reports the keys and variables that nobody
/// asked for.
pub(super) struct Reader<'a> {
    section: &'static str,
    keys: toml::Table,
    asked: Vec<&'static str>,
    environment: &'a Environment,
    mistakes: &'a mut Mistakes,
}

impl<'a> Reader<'a> {
    /// Takes the section out of the file.
    pub(super) fn new(
        section: &'static str,
        file: &mut toml::Table,
        environment: &'a Environment,
        mistakes: &'a mut Mistakes,
    ) -> Self {
        let keys = match file.remove(section) {
            None => toml::Table::new(),
            Some(toml::Value::Table(keys)) => keys,
            Some(other) => {
                mistakes.add(format!("{section} is {other}: write it as a section, [{section}]"));
                toml::Table::new()
            }
        };
        Self { section, keys, asked: Vec::new(), environment, mistakes }
    }

    /// Reads a setting that has a default.
    pub(super) fn or<T: Setting>(&mut self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// Reads a setting that must be given; `stand_in` is used when it is not, beside the mistake.
    pub(super) fn required<T: Setting>(&mut self, key: &'static str, also: &str, stand_in: T) -> T {
        match self.optional(key) {
            Some(value) => value,
            None => {
                let section = self.section;
                self.mistakes.add(format!("{section}.{key} is missing: set it in the file or as {also}"));
                stand_in
            }
        }
    }

    /// Reads a setting that may be absent.
    pub(super) fn optional<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        self.asked.push(key);
        let from_file = self.keys.remove(key);
        let variable = variable(self.section, key);
        let (place, parsed) = match self.environment.get(&variable) {
            Some(text) => (variable, T::from_text(text)),
            None => (format!("{}.{key}", self.section), T::from_toml(from_file?)),
        };
        parsed.map_err(|problem| self.mistakes.add(format!("{place}: {problem}"))).ok()
    }

    /// Reads an environment variable that other programs share, such as `DATABASE_URL`.
    pub(super) fn shared(&self, variable: &str) -> Option<String> {
        self.environment.get(variable).cloned()
    }

    /// Reports a value that parses and makes no sense.
    pub(super) fn refuse(&mut self, key: &str, problem: &str) {
        self.mistakes.add(format!("{}.{key}: {problem}", self.section));
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let known = self.asked.join(", ");
        let of_file = self.keys.keys().map(|key| format!("{}.{key}", self.section));
        let (prefix, asked) = (variable(self.section, ""), self.asked.iter().map(|key| variable(self.section, key)));
        let asked: Vec<_> = asked.collect();
        let of_section = self.environment.keys().filter(|name| name.starts_with(&prefix));
        let of_environment = of_section.filter(|name| !asked.contains(name)).cloned();
        for unknown in of_file.chain(of_environment) {
            self.mistakes.add(format!("{unknown}: there is no such setting; there are {known}"));
        }
    }
}

/// Gives the name of the environment variable for a setting.
fn variable(section: &str, key: &str) -> String {
    format!("WEIR_{section}_{key}").to_ascii_uppercase()
}
