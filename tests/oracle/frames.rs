//! Frames of the fleet's models: values that often stay the same, histories, and things that cannot
//! be decoded or stored.

use crate::models::Model;
use crate::random::Random;
use dataflows::model::{DAY_US, HOUR_US, MINUTE_US, SECOND_US};
use serde_json::{Map, Value, json};

/// What an uplink carries.
pub(crate) struct Payload {
    pub(crate) frame: Vec<u8>,
    pub(crate) decoded: Option<String>,
}

/// Makes the payload of an uplink that is sent about `now_us`.
pub(crate) fn payload(model: Model, random: &mut Random, now_us: i64) -> Payload {
    let mut decoded = None;
    let frame = match model {
        Model::Scripted => script(random, now_us),
        Model::Em300 => em300(random, now_us),
        Model::Am307 => am307(random),
        Model::Elsys => elsys(random),
        Model::Upstream => {
            decoded = (random.share() < 0.9).then(|| fields(random, now_us).to_string());
            vec![random.below(4) as u8]
        }
    };
    Payload { frame, decoded }
}

/// Picks how long ago something was measured, in half minutes, so that equal times are likely: most
/// within the horizon, some far behind it, some impossible.
pub(crate) fn ago_us(random: &mut Random) -> i64 {
    let half_minutes = match random.pick([30, 20, 6, 2, 1, 1].into_iter()) {
        0 => 0,
        1 => random.below(20) as i64,
        2 => random.below(600) as i64,
        3 => random.below((20 * DAY_US / MINUTE_US * 2) as u64) as i64,
        4 => -2 * 130,
        _ => 30 * 365 * DAY_US / MINUTE_US * 2,
    };
    half_minutes * 30 * SECOND_US
}

/// Rounds a time down to half minutes.
pub(crate) fn rounded(us: i64) -> i64 {
    us.div_euclid(30 * SECOND_US) * 30 * SECOND_US
}

/// Tenths have no exact binary form, so that sums tell in which order they were added.
fn tenths(random: &mut Random) -> f64 {
    random.below(4) as f64 / 10.0
}

fn script(random: &mut Random, now_us: i64) -> Vec<u8> {
    match random.pick([50, 1, 1, 2, 1, 2].into_iter()) {
        0 => fields(random, now_us).to_string().into_bytes(),
        1 => b"throw".to_vec(),
        2 => b"errors".to_vec(),
        3 => b"spin".to_vec(),
        4 => b"{\"level\": 1".to_vec(),
        // Too many values at once.
        _ => json!((0..300).collect::<Vec<_>>()).to_string().into_bytes(),
    }
}

/// Fields of all kinds, nested, with histories.
fn fields(random: &mut Random, now_us: i64) -> Value {
    let mut fields = Map::new();
    let mut sometimes = |share: f64, name: &str, random: &mut Random, value: fn(&mut Random) -> Value| {
        if random.share() < share {
            fields.insert(name.into(), value(random));
        }
    };
    sometimes(0.8, "level", random, |random| json!(tenths(random)));
    sometimes(0.4, "tank", random, |random| json!({ "left": tenths(random), "right": [random.below(2), -0.0] }));
    sometimes(0.3, "door", random, |random| json!(random.below(2) == 0));
    sometimes(0.3, "state", random, |random| json!(["idle", "busy", "nul\0"][random.below(3) as usize]));
    sometimes(0.2, "place", random, |random| {
        let altitude = [None, Some(34.5)][random.below(2) as usize];
        json!({ "latitude": 52.5, "longitude": 13.0 + tenths(random), "altitude": altitude })
    });
    sometimes(0.02, "place", random, |_| json!({ "latitude": 91.0, "longitude": 13.4 }));
    sometimes(0.05, "probe", random, |_| json!("not a number"));
    sometimes(0.02, "probes", random, |_| json!(vec!["not a number"; 20]));
    if random.share() < 0.15 {
        let rows = 1 + random.below(5);
        let row = |random: &mut Random| json!({ "timestamp": rounded(now_us - ago_us(random)) / 1000, "level": tenths(random) });
        fields.insert("history".into(), (0..rows).map(|_| row(random)).collect());
    }
    Value::Object(fields)
}

/// Temperature and humidity, and now and then values that were kept from an outage.
fn em300(random: &mut Random, now_us: i64) -> Vec<u8> {
    let mut frame = vec![0x03, 0x67, 230 + random.below(4) as u8, 0, 0x04, 0x68, 78 + random.below(3) as u8];
    if random.share() < 0.2 {
        for _ in 0..=random.below(3) {
            let at_s = rounded(now_us - ago_us(random).clamp(0, 6 * HOUR_US)) / SECOND_US;
            frame.extend([0x20, 0xce]);
            frame.extend((at_s as u32).to_le_bytes());
            frame.extend([230 + random.below(4) as u8, 0, 80]);
        }
    }
    broken_at_times(frame, random)
}

fn am307(random: &mut Random) -> Vec<u8> {
    let frame =
        vec![0x03, 0x67, 230 + random.below(3) as u8, 0, 0x04, 0x68, 80, 0x07, 0x7d, random.below(2) as u8, 3, 0x05, 0, 1];
    broken_at_times(frame, random)
}

fn elsys(random: &mut Random) -> Vec<u8> {
    let frame = vec![1, 0, 220 + random.below(3) as u8, 2, 41, 21, 70, 48 + random.below(2) as u8, 9, 64, 226, 9, 56, 49, 2];
    broken_at_times(frame, random)
}

fn broken_at_times(mut frame: Vec<u8>, random: &mut Random) -> Vec<u8> {
    if random.share() < 0.03 {
        frame.truncate(frame.len() - 1);
    }
    frame
}
