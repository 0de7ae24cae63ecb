//! Decentlab's payloads: version, device id, flags, then the words of each sensor, all big-endian.

use super::{Field, KindSpec, Walk, thousandths};
use crate::load::uplink::{Frame, Readings};

const VERSION: u8 = 2;
const DEVICE_ID: u16 = 5_021;
/// Both sensors, soil and battery, are in the payload.
const FLAGS: u16 = 0b11;

pub(super) static DL_5TM: KindSpec = KindSpec {
    name: "decentlab-dl5tm",
    template: "decentlab-dl5tm",
    fport: 1,
    walks: &[
        Walk { min: 100, max: 2_000, step: 6 },
        Walk { min: 300, max: 800, step: 3 },
        Walk { min: 2_500, max: 3_200, step: 2 },
    ],
    fields: &[
        Field { name: "dielectric_permittivity", reading: 0, value: permittivity },
        Field { name: "volumetric_water_content", reading: 0, value: water_content },
        Field { name: "soil_temperature", reading: 1, value: soil_temperature },
        Field { name: "battery_voltage", reading: 2, value: thousandths },
    ],
    encode,
};

fn permittivity(word: i32) -> f64 {
    f64::from(word) / 50.0
}

/// Topp's equation.
fn water_content(word: i32) -> f64 {
    let permittivity = permittivity(word);
    0.0000043 * permittivity.powi(3) - 0.00055 * permittivity.powi(2) + 0.0292 * permittivity - 0.053
}

fn soil_temperature(word: i32) -> f64 {
    (f64::from(word) - 400.0) / 10.0
}

fn encode(readings: &Readings, frame: &mut Frame) {
    let [permittivity, temperature, battery, ..] = *readings;
    frame.push(&[VERSION]);
    [DEVICE_ID, FLAGS].into_iter().for_each(|word| frame.push(&word.to_be_bytes()));
    [permittivity, temperature, battery].into_iter().for_each(|word| frame.push(&(word as u16).to_be_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Kind;
    use crate::load::kinds::tests::check_round_trip;

    fn decode(bytes: &[u8]) -> Option<Vec<i32>> {
        let [VERSION, _, _, 0, 0b11, words @ ..] = bytes else { return None };
        let words: Vec<i32> = words.chunks_exact(2).map(|w| i32::from(u16::from_be_bytes([w[0], w[1]]))).collect();
        (words.len() == 3).then_some(words)
    }

    #[test]
    fn a_payload_is_read_as_it_was_written() {
        check_round_trip(Kind::DecentlabDl5tm, decode);
    }

    #[test]
    fn a_payload_has_its_bytes_and_stands_for_its_values() {
        let readings = [55, 625, 3_168, 0, 0, 0, 0, 0];
        let mut frame = Frame::new();
        encode(&readings, &mut frame);
        assert_eq!(frame.as_slice(), [0x02, 0x13, 0x9d, 0x00, 0x03, 0x00, 0x37, 0x02, 0x71, 0x0c, 0x60]);
        let values = DL_5TM.fields.iter().map(|field| (field.value)(readings[field.reading]));
        for (value, expected) in values.zip([1.1, -0.021_539_776_7, 22.5, 3.168]) {
            assert!((value - expected).abs() < 1e-9, "{value} instead of {expected}");
        }
    }
}
