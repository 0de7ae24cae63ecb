//! What the fuzzer asks of results.

use super::flatten::{Names, Usual, flatten};
use super::tree::Tree;
use dataflows::decode::Decoded;
use dataflows::model::EventTime;

const RECEIVED_AT: EventTime = EventTime(1_795_352_400_000_000);

/// Reads `later` on the short way that `earlier` opened.
///
/// Panics: when the short way gives anything else than the tree does.
pub fn results(earlier: &[u8], later: &[u8]) {
    let mut names = Names::default();
    let mut usual = Usual::default();
    let mut flattened = |bytes| {
        let tree = Tree::read(bytes).ok()?;
        let mut decoded = Decoded::default();
        flatten(&tree, RECEIVED_AT, &mut names, &mut decoded).ok()?;
        Some((tree, decoded))
    };
    if let Some((tree, decoded)) = flattened(earlier) {
        usual.learn(&tree, &decoded);
    }
    let mut decoded = Decoded::default();
    if usual.read(later, &mut decoded) {
        let (_, expected) = flattened(later).expect("the short way reads only what has a tree");
        assert_eq!(decoded, expected);
    } else {
        assert_eq!(decoded, Decoded::default(), "what is not read leaves nothing");
    }
}

/// Reads fields that came decoded.
///
/// Errors: the text is no JSON, or nests too deeply.
pub fn json(text: &str) -> Result<(), String> {
    let tree = Tree::from_json(text).map_err(|error| error.to_string())?;
    // More fields than may be is for the graph to set aside.
    let _ = flatten(&tree, RECEIVED_AT, &mut Names::default(), &mut Decoded::default());
    Ok(())
}
