//! Reads apt's sources, to learn the Debian mirror that this system uses.
//!
//! Both formats: the one-line `*.list` and the deb822 `*.sources`.

use std::fs;
use std::path::{Path, PathBuf};

/// One archive that apt is told to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
}

/// The sources of this system. Files that cannot be read are left out: apt itself complains about those.
pub(super) fn of_this_system() -> Vec<Source> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(folder) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(folder.filter_map(|entry| Some(entry.ok()?.path())));
    }
    files.sort();
    files.iter().filter_map(|file| Some(parse(file, &fs::read_to_string(file).ok()?))).flatten().collect()
}

/// The URI under which a Debian release of this codename is found: the archive that has its `main`.
pub(super) fn mirror<'a>(sources: &'a [Source], codename: &str) -> Option<&'a str> {
    let is_archive = |source: &&Source| {
        source.suites.iter().any(|suite| suite == codename) && source.components.iter().any(|component| component == "main")
    };
    sources.iter().find(is_archive).map(|source| source.uri.as_str())
}

/// The value of `key` in the text of `/etc/os-release`.
pub(super) fn os_release<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(|value| value.trim_matches('"'))
}

fn parse(file: &Path, text: &str) -> Vec<Source> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("list") => text.lines().filter_map(one_line).collect(),
        Some("sources") => stanzas(text).iter().flat_map(|stanza| deb822(stanza)).collect(),
        _ => Vec::new(),
    }
}

/// `deb [options] uri suite component…`
fn one_line(line: &str) -> Option<Source> {
    let entry = line.split('#').next()?.trim().strip_prefix("deb")?;
    if !entry.starts_with(char::is_whitespace) {
        return None; // deb-src
    }
    let entry = entry.trim_start();
    let entry = if entry.starts_with('[') { entry.split_once(']')?.1 } else { entry };
    let mut words = entry.split_whitespace().map(str::to_owned);
    Some(Source { uri: words.next()?, suites: vec![words.next()?], components: words.collect() })
}

/// Paragraphs of `Key: value` lines, continued by indented lines, without comments.
fn stanzas(text: &str) -> Vec<Vec<(String, String)>> {
    let mut stanzas = vec![Vec::<(String, String)>::new()];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let last = stanzas.last_mut().expect("there is always one, as it starts with one and only grows");
        if line.trim().is_empty() {
            stanzas.push(Vec::new());
        } else if let (true, Some((_, value))) = (line.starts_with(char::is_whitespace), last.last_mut()) {
            value.push(' ');
            value.push_str(line.trim());
        } else if let Some((key, value)) = line.split_once(':') {
            last.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    stanzas
}

/// One source for each URI of a stanza that is enabled and has binary packages.
fn deb822(stanza: &[(String, String)]) -> Vec<Source> {
    let words = |wanted: &str| -> Vec<String> {
        let value = stanza.iter().find(|(key, _)| key == wanted).map_or("", |(_, value)| value);
        value.split_whitespace().map(str::to_owned).collect()
    };
    if words("enabled").iter().any(|word| word == "no") || !words("types").iter().any(|word| word == "deb") {
        return Vec::new();
    }
    let source = |uri| Source { uri, suites: words("suites"), components: words("components") };
    words("uris").into_iter().map(source).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{mirror, os_release, parse};

    #[track_caller]
    fn check(file: &str, text: &str, expected: Option<&str>) {
        assert_eq!(mirror(&parse(Path::new(file), text), "bookworm"), expected, "{file}:\n{text}");
    }

    #[test]
    fn the_mirror_is_the_archive_with_main_of_this_release() {
        check("a.list", "deb http://mirror.example/debian bookworm main contrib\n", Some("http://mirror.example/debian"));
        check(
            "a.list",
            "deb\t[signed-by=/k.gpg arch=amd64]  http://m.example/d  bookworm  main # fast",
            Some("http://m.example/d"),
        );
        check("a.list", "deb-src http://m.example/debian bookworm main\n# deb http://m.example/d bookworm main\n", None);
        check("a.list", "deb http://m.example/sec bookworm-security main\ndeb http://m.example/x bookworm stable\n", None);
        check("a.list", "deb [broken http://m.example/debian bookworm main\ndeb\n", None);
        check("a.list.save", "deb http://m.example/debian bookworm main\n", None);
    }

    #[test]
    fn deb822_sources_are_understood() {
        let stanza = "Types: deb deb-src\nURIs: http://m.example/debian\nSuites: bookworm\n bookworm-updates\nComponents: main\n";
        check("a.sources", stanza, Some("http://m.example/debian"));
        check(
            "a.sources",
            &format!("# ours\nTypes: deb\nURIs: http://x.example\nSuites: nodistro\n\n{stanza}"),
            Some("http://m.example/debian"),
        );
        check("a.sources", &format!("Enabled: no\n{stanza}"), None);
        check(
            "a.sources",
            "types: deb\n# a comment\nuris: http://m.example/d\nsuites: bookworm\ncomponents: main",
            Some("http://m.example/d"),
        );
        check("a.sources", "Types: deb-src\nURIs: http://m.example/d\nSuites: bookworm\nComponents: main", None);
        check("a.sources", " stray continuation\n\n\n", None);
    }

    #[test]
    fn the_release_is_read_from_os_release() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(os_release(text, "VERSION_CODENAME"), Some("bookworm"));
        assert_eq!(os_release(text, "VERSION_ID"), Some("12"));
        assert_eq!(os_release(text, "VERSION"), None);
    }
}
