//! Elsys' payloads: type, value in big-endian order, one behind the other.

use super::{Field, KindSpec, Walk, plain, tenths};
use crate::load::uplink::{Frame, Readings};

pub(super) static ERS: KindSpec = KindSpec {
    name: "elsys",
    template: "elsys",
    fport: 5,
    walks: &[
        Walk { min: -50, max: 350, step: 3 },
        Walk { min: 15, max: 90, step: 2 },
        Walk { min: 0, max: 1_500, step: 80 },
        Walk { min: 0, max: 200, step: 12 },
        Walk { min: 3_000, max: 3_650, step: 2 },
    ],
    fields: &[
        Field { name: "temperature", reading: 0, value: tenths },
        Field { name: "humidity", reading: 1, value: plain },
        Field { name: "light", reading: 2, value: plain },
        Field { name: "motion", reading: 3, value: plain },
        Field { name: "vdd", reading: 4, value: plain },
    ],
    encode,
};

fn encode(readings: &Readings, frame: &mut Frame) {
    let [temperature, humidity, light, motion, vdd, ..] = *readings;
    word(frame, 0x01, temperature);
    frame.push(&[0x02, humidity as u8]);
    word(frame, 0x04, light);
    frame.push(&[0x05, motion as u8]);
    word(frame, 0x07, vdd);
}

/// Writes a value of two bytes; negative ones in two's complement.
fn word(frame: &mut Frame, kind: u8, value: i32) {
    let [high, low] = (value as u16).to_be_bytes();
    frame.push(&[kind, high, low]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Kind;
    use crate::load::kinds::tests::check_round_trip;

    fn decode(mut bytes: &[u8]) -> Option<Vec<i32>> {
        let mut values = Vec::new();
        while !bytes.is_empty() {
            let (value, rest) = match bytes {
                [0x01, high, low, rest @ ..] => (i32::from(i16::from_be_bytes([*high, *low])), rest),
                [0x02 | 0x05, v, rest @ ..] => (i32::from(*v), rest),
                [0x04 | 0x07, high, low, rest @ ..] => (i32::from(u16::from_be_bytes([*high, *low])), rest),
                _ => return None,
            };
            values.push(value);
            bytes = rest;
        }
        Some(values)
    }

    #[test]
    fn a_payload_is_read_as_it_was_written() {
        check_round_trip(Kind::Elsys, decode);
    }

    #[test]
    fn a_payload_has_its_bytes() {
        let mut frame = Frame::new();
        encode(&[226, 41, 39, 6, 3_629, 0, 0, 0], &mut frame);
        assert_eq!(frame.as_slice(), [0x01, 0x00, 0xe2, 0x02, 0x29, 0x04, 0x00, 0x27, 0x05, 0x06, 0x07, 0x0e, 0x2d]);
    }
}
