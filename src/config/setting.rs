//! The types that a setting can have, each with one parser for the file and the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A value of a setting.
pub(super) trait Setting: Sized {
    /// Parses a text; the error says what to write.
    fn from_text(text: &str) -> Result<Self, String>;

    /// Takes a value of the file: a text, or a number or truth value written bare.
    fn from_toml(value: toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::String(text) => Self::from_text(&text),
            toml::Value::Integer(_) | toml::Value::Boolean(_) | toml::Value::Float(_) => Self::from_text(&value.to_string()),
            other => Err(format!("{other} is not one value")),
        }
    }
}

macro_rules! parsed {
    ($($type:ty: $words:literal),* $(,)?) => {$(
        impl Setting for $type {
            fn from_text(text: &str) -> Result<Self, String> {
                text.trim().parse().map_err(|_| format!("{text:?} is not {}", $words))
            }
        }
    )*};
}

parsed! {
    bool: "true or false",
    u16: "a whole number from 0 to 65535",
    u32: "a whole number",
    u64: "a whole number",
    usize: "a whole number",
    SocketAddr: "an address with a port, such as 0.0.0.0:8080",
}

impl Setting for String {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl Setting for PathBuf {
    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("the path is empty".into()) } else { Ok(text.into()) }
    }
}

/// A number of bytes, such as `512 MiB`.
#[derive(Clone, Copy)]
pub(super) struct Bytes(pub(super) u64);

impl Setting for Bytes {
    fn from_text(text: &str) -> Result<Self, String> {
        let units = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
        scaled(text, &units).map(|bytes| Self(bytes as u64)).ok_or_else(|| format!("{text:?} is not a size such as 512 MiB"))
    }
}

impl Setting for Duration {
    fn from_text(text: &str) -> Result<Self, String> {
        let units = [("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
        scaled(text, &units)
            .map(|ms| Self::from_millis(ms as u64))
            .ok_or_else(|| format!("{text:?} is not a duration with a unit (ms, s, min, h, d), such as 30 s"))
    }
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<f64> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim())?;
    Some(number.parse::<f64>().ok()? * *scale as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_have_units() {
        let bytes = |text| Bytes::from_text(text).ok().map(|b| b.0);
        assert_eq!(
            [bytes("512 MiB"), bytes("1.5KiB"), bytes("7 B"), bytes("7"), bytes("x")],
            [Some(512 << 20), Some(1536), Some(7), None, None]
        );
        let ms = |text| Duration::from_text(text).ok().map(|d| d.as_millis());
        assert_eq!(
            [ms("30 s"), ms("1.5h"), ms("250ms"), ms("30"), ms("-1 s")],
            [Some(30_000), Some(5_400_000), Some(250), None, None]
        );
    }
}
