//! Milesight's payloads: channel, type, value in little-endian order, one behind the other.

use super::{Field, KindSpec, Walk, halves, hundredths, plain, tenths};
use crate::load::uplink::{Frame, Readings};

pub(super) static AM307: KindSpec = am307("milesight-am307");
pub(super) static AM307_NATIVE: KindSpec = am307("milesight-am307-native");
pub(super) static AM307_FIVE: KindSpec = am307_five("milesight-am307-five", "milesight-am307");
pub(super) static AM307_NATIVE_FIVE: KindSpec = am307_five("milesight-am307-native-five", "milesight-am307-native");

pub(super) static EM300_TH: KindSpec = KindSpec {
    name: "milesight-em300-th",
    template: "milesight-em300-th",
    fport: 85,
    walks: &[Walk { min: 40, max: 100, step: 1 }, Walk { min: -300, max: 600, step: 4 }, Walk { min: 20, max: 190, step: 3 }],
    fields: &[
        Field { name: "battery", reading: 0, value: plain },
        Field { name: "temperature", reading: 1, value: tenths },
        Field { name: "humidity", reading: 2, value: halves },
    ],
    encode: encode_em300_th,
};

const fn am307(template: &'static str) -> KindSpec {
    KindSpec {
        name: template,
        template,
        fport: 85,
        walks: &[
            Walk { min: 40, max: 100, step: 1 },
            Walk { min: 150, max: 300, step: 3 },
            Walk { min: 40, max: 160, step: 3 },
            Walk { min: 0, max: 900, step: 60 },
            Walk { min: 0, max: 2_000, step: 90 },
            Walk { min: 400, max: 2_000, step: 40 },
            Walk { min: 0, max: 500, step: 15 },
            Walk { min: 9_600, max: 10_400, step: 5 },
        ],
        fields: &[
            Field { name: "battery", reading: 0, value: plain },
            Field { name: "temperature", reading: 1, value: tenths },
            Field { name: "humidity", reading: 2, value: halves },
            Field { name: "activity", reading: 3, value: plain },
            Field { name: "illumination", reading: 4, value: plain },
            Field { name: "co2", reading: 5, value: plain },
            Field { name: "tvoc_index", reading: 6, value: hundredths },
            Field { name: "pressure", reading: 7, value: tenths },
        ],
        encode: encode_am307,
    }
}

const fn am307_five(name: &'static str, template: &'static str) -> KindSpec {
    KindSpec {
        name,
        template,
        fport: 85,
        walks: &[
            Walk { min: 150, max: 300, step: 3 },
            Walk { min: 40, max: 160, step: 3 },
            Walk { min: 0, max: 900, step: 60 },
            Walk { min: 0, max: 2_000, step: 90 },
            Walk { min: 400, max: 2_000, step: 40 },
        ],
        fields: &[
            Field { name: "temperature", reading: 0, value: tenths },
            Field { name: "humidity", reading: 1, value: halves },
            Field { name: "activity", reading: 2, value: plain },
            Field { name: "illumination", reading: 3, value: plain },
            Field { name: "co2", reading: 4, value: plain },
        ],
        encode: encode_am307_five,
    }
}

fn encode_am307_five(readings: &Readings, frame: &mut Frame) {
    let [temperature, humidity, activity, illumination, co2, ..] = *readings;
    word(frame, 0x03, 0x67, temperature);
    frame.push(&[0x04, 0x68, humidity as u8]);
    word(frame, 0x05, 0x6a, activity);
    word(frame, 0x06, 0x65, illumination);
    word(frame, 0x07, 0x7d, co2);
}

fn encode_am307(readings: &Readings, frame: &mut Frame) {
    let [battery, temperature, humidity, activity, illumination, co2, tvoc, pressure] = *readings;
    frame.push(&[0x01, 0x75, battery as u8]);
    encode_am307_five(&[temperature, humidity, activity, illumination, co2, 0, 0, 0], frame);
    word(frame, 0x08, 0x7d, tvoc);
    word(frame, 0x09, 0x73, pressure);
}

fn encode_em300_th(readings: &Readings, frame: &mut Frame) {
    let [battery, temperature, humidity, ..] = *readings;
    frame.push(&[0x01, 0x75, battery as u8]);
    word(frame, 0x03, 0x67, temperature);
    frame.push(&[0x04, 0x68, humidity as u8]);
}

/// Writes a value of two bytes; negative ones in two's complement.
fn word(frame: &mut Frame, channel: u8, kind: u8, value: i32) {
    let [low, high] = (value as u16).to_le_bytes();
    frame.push(&[channel, kind, low, high]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Kind;
    use crate::load::kinds::tests::check_round_trip;

    /// Reads values until the bytes end; one that is cut short makes the whole unreadable.
    fn decode(mut bytes: &[u8]) -> Option<Vec<i32>> {
        let mut values = Vec::new();
        while !bytes.is_empty() {
            let (value, rest) = match bytes {
                [0x01, 0x75, v, rest @ ..] | [0x04, 0x68, v, rest @ ..] => (i32::from(*v), rest),
                [0x03, 0x67, low, high, rest @ ..] => (i32::from(i16::from_le_bytes([*low, *high])), rest),
                [0x05, 0x6a, low, high, rest @ ..]
                | [0x06, 0x65, low, high, rest @ ..]
                | [0x07 | 0x08, 0x7d, low, high, rest @ ..]
                | [0x09, 0x73, low, high, rest @ ..] => (i32::from(u16::from_le_bytes([*low, *high])), rest),
                _ => return None,
            };
            values.push(value);
            bytes = rest;
        }
        Some(values)
    }

    #[test]
    fn am307_is_read_as_it_was_written() {
        check_round_trip(Kind::MilesightAm307, decode);
        check_round_trip(Kind::MilesightAm307Native, decode);
        check_round_trip(Kind::MilesightAm307Five, decode);
        check_round_trip(Kind::MilesightAm307NativeFive, decode);
    }

    #[test]
    fn em300_th_is_read_as_it_was_written() {
        check_round_trip(Kind::MilesightEm300Th, decode);
    }

    #[test]
    fn em300_th_has_its_bytes() {
        let mut frame = Frame::new();
        encode_em300_th(&[100, 272, 122, 0, 0, 0, 0, 0], &mut frame);
        assert_eq!(frame.as_slice(), [0x01, 0x75, 0x64, 0x03, 0x67, 0x10, 0x01, 0x04, 0x68, 0x7a]);
    }

    #[test]
    fn am307_has_its_bytes() {
        let mut frame = Frame::new();
        encode_am307(&[92, -8, 101, 73, 18, 999, 205, 10_135], &mut frame);
        let text: String = frame.as_slice().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "01755c0367f8ff046865056a490006651200077de703087dcd0009739727");
    }
}
