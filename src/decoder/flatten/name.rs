//! Owns field names: what they may hold, and that the same name is allocated once.

use dataflows::model::FieldName;
use hashbrown::HashSet;

/// Longest name. Unit: bytes.
const LEN_MAX: usize = 128;
/// Names kept for reuse; a decoder that keeps making new ones starts over.
const KEPT_MAX: usize = 4096;
/// The field of a result that is a bare value.
const UNNAMED: &str = "value";

/// The name of the place in a tree, joined from the keys on the way.
#[derive(Default)]
pub(super) struct Path {
    name: String,
    /// Where the last key starts.
    last: usize,
}

/// Where a path goes back to.
#[derive(Clone, Copy)]
pub(super) struct Up {
    len: usize,
    last: usize,
}

impl Path {
    /// Whether it is at the root.
    pub(super) fn is_empty(&self) -> bool {
        self.name.is_empty()
    }

    /// Gives the joined name.
    pub(super) fn name(&self) -> &str {
        if self.name.is_empty() { UNNAMED } else { &self.name }
    }

    /// Gives the last key on the way.
    pub(super) fn last(&self) -> &str {
        &self.name[self.last..]
    }

    /// Stays where it is.
    pub(super) fn here(&self) -> Up {
        Up { len: self.name.len(), last: self.last }
    }

    /// Goes down by a key; what a name cannot hold becomes `_`.
    pub(super) fn enter(&mut self, key: &str) -> Up {
        let up = self.here();
        if !self.name.is_empty() {
            self.name.push('_');
        }
        self.last = self.name.len();
        // A name far over the limit is refused anyway: what is behind that need not be kept.
        let room = (2 * LEN_MAX).saturating_sub(self.name.len());
        if key.len() <= room && key.bytes().all(|byte| is_plain(byte.into())) {
            self.name.push_str(key);
        } else {
            self.name.extend(key.chars().take(room).map(|c| if is_plain(c) { c } else { '_' }));
        }
        if self.last == self.name.len() {
            self.name.push('_');
        }
        up
    }

    /// Goes down by an index.
    pub(super) fn enter_index(&mut self, index: usize) -> Up {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        let mut rest = index;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.enter(std::str::from_utf8(&digits[at..]).expect("digits are ASCII"))
    }

    /// Goes back up.
    pub(super) fn leave(&mut self, up: Up) {
        self.name.truncate(up.len);
        self.last = up.last;
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

/// Cuts a name, which is ASCII, to what may be shown.
pub(super) fn shortened(name: &str) -> &str {
    &name[..name.len().min(LEN_MAX)]
}

/// The names that a decoder has given, each allocated once.
#[derive(Default)]
pub(in crate::decoder) struct Names(HashSet<FieldName>);

impl Names {
    /// Gives the shared name.
    ///
    /// Errors: it is longer than 128 bytes; the text says so.
    pub(super) fn intern(&mut self, name: &str) -> Result<FieldName, String> {
        if let Some(known) = self.0.get(name) {
            return Ok(known.clone());
        }
        if name.len() > LEN_MAX {
            return Err(format!("the field's name has more than {LEN_MAX} bytes: shorten the names or nest less"));
        }
        if self.0.len() == KEPT_MAX {
            self.0.clear();
        }
        let name = FieldName::from(name);
        self.0.insert(name.clone());
        Ok(name)
    }
}
