//! Owns the payloads of the simulated devices: one file per vendor, with encoder and formulas.
//!
//! A kind names the device template that decodes it; the formulas are what that template must compute, to
//! the last bit but for rounding of powers.

mod decentlab;
mod elsys;
mod milesight;

use super::uplink::{Frame, Readings};

/// A kind of device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Milesight AM307: seven values of indoor air, and the battery.
    MilesightAm307,
    /// The same device, decoded by a wasm module.
    MilesightAm307Native,
    /// An AM307 that sends five of its values: temperature, humidity, activity, illumination, CO2.
    MilesightAm307Five,
    /// The same five, decoded by a wasm module.
    MilesightAm307NativeFive,
    /// Milesight EM300-TH: temperature, humidity, battery.
    MilesightEm300Th,
    /// Elsys ERS: temperature, humidity, light, motion, supply voltage.
    Elsys,
    /// Decentlab DL-5TM: soil moisture and temperature.
    DecentlabDl5tm,
}

/// How a reading wanders, in the integers of the payload.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Walk {
    /// Smallest.
    pub min: i32,
    /// Largest.
    pub max: i32,
    /// Largest step from one uplink to the next.
    pub step: i32,
}

/// One field that the template gives.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its flat name.
    pub name: &'static str,
    /// Which reading it comes from.
    pub reading: usize,
    /// What the decoder makes of that reading.
    pub value: fn(i32) -> f64,
}

/// Everything there is to know about a kind.
#[derive(Debug)]
pub struct KindSpec {
    /// The kind's name.
    pub name: &'static str,
    /// The name of the template that decodes it; several kinds may share one.
    pub template: &'static str,
    /// The LoRaWAN port that it sends on.
    pub fport: u8,
    /// Its readings; at most [`super::uplink::READINGS_MAX`].
    pub walks: &'static [Walk],
    /// The fields that its decoder gives, all of them in each uplink.
    pub fields: &'static [Field],
    /// Writes the payload.
    pub encode: fn(&Readings, &mut Frame),
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::MilesightAm307,
        Self::MilesightAm307Native,
        Self::MilesightAm307Five,
        Self::MilesightAm307NativeFive,
        Self::MilesightEm300Th,
        Self::Elsys,
        Self::DecentlabDl5tm,
    ];

    /// One kind for each template, for a fleet of every sort.
    pub const OF_EACH_TEMPLATE: [Self; 5] =
        [Self::MilesightAm307, Self::MilesightAm307Native, Self::MilesightEm300Th, Self::Elsys, Self::DecentlabDl5tm];

    /// Gives what there is to know about it.
    pub fn spec(self) -> &'static KindSpec {
        match self {
            Self::MilesightAm307 => &milesight::AM307,
            Self::MilesightAm307Native => &milesight::AM307_NATIVE,
            Self::MilesightAm307Five => &milesight::AM307_FIVE,
            Self::MilesightAm307NativeFive => &milesight::AM307_NATIVE_FIVE,
            Self::MilesightEm300Th => &milesight::EM300_TH,
            Self::Elsys => &elsys::ERS,
            Self::DecentlabDl5tm => &decentlab::DL_5TM,
        }
    }

    /// Gives the kind of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.spec().name == name)
    }
}

fn plain(reading: i32) -> f64 {
    f64::from(reading)
}

fn tenths(reading: i32) -> f64 {
    f64::from(reading) / 10.0
}

fn hundredths(reading: i32) -> f64 {
    f64::from(reading) / 100.0
}

fn halves(reading: i32) -> f64 {
    f64::from(reading) / 2.0
}

fn thousandths(reading: i32) -> f64 {
    f64::from(reading) / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::random::Random;
    use crate::load::uplink::READINGS_MAX;

    /// Readings at random within their walks.
    fn any_readings(walks: &[Walk], random: &mut Random) -> Readings {
        let mut readings = [0; READINGS_MAX];
        for (reading, walk) in readings.iter_mut().zip(walks) {
            *reading = walk.min + random.below((walk.max - walk.min + 1) as u64) as i32;
        }
        readings
    }

    /// Encodes random readings a thousand times and expects `decode`, given the bytes, to give them again,
    /// and nothing where the last byte is missing.
    pub(super) fn check_round_trip(kind: Kind, decode: fn(&[u8]) -> Option<Vec<i32>>) {
        let spec = kind.spec();
        let mut random = Random::new(11, 0);
        for _ in 0..1_000 {
            let readings = any_readings(spec.walks, &mut random);
            let mut frame = Frame::new();
            (spec.encode)(&readings, &mut frame);
            assert_eq!(decode(frame.as_slice()).as_deref(), Some(&readings[..spec.walks.len()]), "{frame:?}");
            frame.cut();
            assert_eq!(decode(frame.as_slice()), None, "{frame:?}");
        }
    }

    #[test]
    fn kinds_are_within_the_limits_and_named_once() {
        for kind in Kind::ALL {
            let spec = kind.spec();
            assert!(spec.walks.len() <= READINGS_MAX);
            assert!(spec.fields.iter().all(|field| field.reading < spec.walks.len()));
            assert!(spec.walks.iter().all(|walk| walk.min < walk.max && walk.step > 0));
            assert_eq!(Kind::named(spec.name), Some(kind));
        }
        assert_eq!(Kind::named("milesight-am307x"), None);
    }
}
