//! The templates that ship with weir: device models with their decoder and the units of their fields.
//!
//! Owns their list; each is a folder of `templates/` with its test vectors beside it.

use super::DecoderKind;
use serde::Deserialize;
use serde_json::Value;

/// A template that ships with weir.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// Its name, such as `milesight-am307`.
    pub name: &'static str,
    /// The decoder and what it is written in; none where the network decodes.
    pub decoder: Option<(DecoderKind, &'static [u8])>,
    manifest: &'static str,
}

/// `template.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    name: String,
    description: String,
    decoding: String,
    #[expect(dead_code, reason = "for readers of the file: the list below embeds what it names")]
    decoder: Option<String>,
    #[serde(default)]
    fields: Value,
}

macro_rules! builtin {
    ($name:literal, $kind:ident, $decoder:literal) => {
        Builtin {
            name: $name,
            decoder: Some((DecoderKind::$kind, include_bytes!(concat!("../../templates/", $name, "/", $decoder)))),
            manifest: include_str!(concat!("../../templates/", $name, "/template.toml")),
        }
    };
}

static ALL: [Builtin; 5] = [
    builtin!("decentlab-dl5tm", JavaScript, "decoder.js"),
    builtin!("elsys", JavaScript, "decoder.js"),
    builtin!("milesight-am307", JavaScript, "decoder.js"),
    builtin!("milesight-am307-native", Wasm, "../../decoders/built/milesight-am307.wasm"),
    builtin!("milesight-em300-th", JavaScript, "decoder.js"),
];

/// Gives all of them, by name.
pub fn all() -> &'static [Builtin] {
    &ALL
}

/// Gives the one of this name.
pub fn builtin(name: &str) -> Option<&'static Builtin> {
    ALL.iter().find(|template| template.name == name)
}

impl Builtin {
    fn manifest(&self) -> Manifest {
        let manifest: Manifest = toml::from_str(self.manifest).expect("the templates that ship with weir are well-formed");
        debug_assert_eq!(manifest.name, self.name);
        debug_assert_eq!(manifest.decoding, self.decoder.map_or("upstream", |(kind, _)| kind.as_str()));
        manifest
    }

    /// Gives what it is, in a line.
    pub fn description(&self) -> String {
        self.manifest().description
    }

    /// Gives what the `template` table holds of its fields: `{"temperature": {"unit": "°C", …}}`.
    pub fn fields(&self) -> Value {
        match self.manifest().fields {
            Value::Null => Value::Object(serde_json::Map::new()),
            fields => fields,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_say_what_is_embedded() {
        for template in all() {
            let Manifest { name, description, fields, .. } = template.manifest();
            assert!(!description.is_empty(), "{name}");
            for (field, spec) in fields.as_object().expect("fields are a table") {
                for (key, value) in spec.as_object().expect("a field is a table") {
                    let known = match key.as_str() {
                        "unit" => value.is_string(),
                        "deadband" | "heartbeat_s" => value.as_f64().is_some_and(|number| number >= 0.0),
                        _ => false,
                    };
                    assert!(known, "{name}: {field}.{key} = {value}");
                }
            }
        }
    }

    #[test]
    fn they_are_found_by_name() {
        assert_eq!(builtin("elsys").map(|template| template.name), Some("elsys"));
        assert!(builtin("abacus").is_none());
        assert!(all().is_sorted_by_key(|template| template.name));
    }
}
