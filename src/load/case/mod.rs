//! Owns what a case asks: which fleet, how its uplinks come, how long, and which bars the figures must hold.
//!
//! A case is a folder with `case.toml` and, once somebody measured it, `baseline.json`: the figures of a run.

mod bars;
mod shipped;

pub use bars::{BarResult, Bars};
pub use shipped::SHIPPED;

use super::sender::{Pace, SendOptions};
use super::{FleetSpec, Kind, Shape, SpecError};
use dataflows::model::EventTime;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A case, as its file has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows, in a sentence.
    pub about: String,
    /// Who sends.
    pub fleet: CaseFleet,
    /// How the uplinks come in.
    pub source: Source,
    /// Threads of the daemon that run the graph.
    #[serde(default = "one")]
    pub workers: usize,
    /// Whether the daemon is killed and started again when all is committed, before anything more is posted, and the time
    /// until it has caught up taken.
    #[serde(default)]
    pub restart: bool,
    /// What the figures must hold.
    #[serde(default)]
    pub bars: Bars,
}

/// The fleet of a case. Shares are parts of the uplinks, from 0 to 1.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFleet {
    /// How many devices.
    pub devices: u32,
    /// The kinds of devices by name, with their weights.
    pub kinds: BTreeMap<String, u32>,
    /// How often each device sends. Unit: seconds.
    pub period_s: f64,
    /// How far an uplink may slip within its period, as a part of it.
    pub jitter: f64,
    /// How many come a second time.
    pub duplicates: f64,
    /// How many arrive behind later ones of their device.
    pub out_of_order: f64,
    /// How much later those arrive at most. Unit: seconds.
    #[serde(default = "twenty")]
    pub out_of_order_s_max: f64,
    /// How late an uplink may be and still count as in time. Unit: seconds.
    #[serde(default = "ten_minutes")]
    pub lateness_horizon_s: f64,
    /// How many are older than the lateness horizon.
    pub late: f64,
    /// How many the decoder must refuse.
    pub bad: f64,
    /// How many readings are the same as the one before.
    pub unchanged: f64,
    /// How many of the devices are probes, whose uplinks are watched until they are visible.
    #[serde(default)]
    pub probes: u32,
    /// Everything random follows from it.
    #[serde(default = "first")]
    pub seed: u64,
}

/// How a case's uplinks come in.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// They are in the log before the daemon starts.
    Log {
        /// How many, copies included.
        uplinks: usize,
        /// How the fleet goes on behind them.
        then: Option<Posting>,
    },
    /// They are posted.
    Http(Posting),
}

/// How uplinks are posted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posting {
    /// The envelopes, with their weights.
    pub shapes: BTreeMap<CaseShape, u32>,
    /// How many of one shape go in one NDJSON body at most; 1: each goes alone.
    #[serde(default = "one")]
    pub batch_max: usize,
    /// How long an uplink waits for others to share its body. Unit: milliseconds.
    #[serde(default)]
    pub batch_wait_ms: u64,
    /// How many connections; each carries one request at a time.
    pub connections: usize,
    /// When they are sent.
    #[serde(default)]
    pub pace: CasePace,
    /// How long. Unit: seconds.
    pub duration_s: u64,
}

/// An envelope, by the name that a case uses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaseShape {
    /// A webhook of The Things Stack v3.
    Ttn,
    /// An event of ChirpStack v4.
    Chirpstack,
    /// weir's own JSON.
    Own,
}

/// When uplinks are posted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CasePace {
    /// When they are due.
    #[default]
    Schedule,
    /// As fast as the connections carry them.
    Fast,
}

/// Why there is no such case.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// Neither a shipped case nor a folder.
    #[error("there is no case {name:?}: give one of {shipped}, or a folder with a case.toml")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        shipped: String,
    },
    /// A file of the folder.
    #[error("{} cannot be read ({error})", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The case is not one.
    #[error("the case cannot be used: {0}")]
    Toml(#[from] toml::de::Error),
    /// The baseline is not JSON.
    #[error("the baseline cannot be used: {0}")]
    Baseline(#[from] serde_json::Error),
    /// A kind that there is not.
    #[error("no kind of device is called {name:?}: there are {known}")]
    Kind {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The fleet cannot be simulated.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

impl Case {
    /// Finds a case by its name, or in a folder, with its baseline.
    ///
    /// Errors: there is none, or one that cannot be used.
    pub fn find(name: &str) -> Result<(Self, Option<Value>), CaseError> {
        let path = Path::new(name);
        let (case, baseline) = match SHIPPED.iter().find(|shipped| shipped.name == name) {
            Some(shipped) => (shipped.case.to_owned(), shipped.baseline.map(str::to_owned)),
            None if path.join("case.toml").is_file() => {
                let read = |file: &str| {
                    let path = path.join(file);
                    std::fs::read_to_string(&path).map_err(|error| CaseError::Read { path, error })
                };
                let baseline = path.join("baseline.json").is_file().then(|| read("baseline.json")).transpose()?;
                (read("case.toml")?, baseline)
            }
            None => {
                let shipped = SHIPPED.map(|shipped| shipped.name).join(", ");
                return Err(CaseError::Unknown { name: name.to_owned(), shipped });
            }
        };
        Ok((toml::from_str(&case)?, baseline.as_deref().map(serde_json::from_str).transpose()?))
    }

    /// Gives the fleet's spec, with a schedule that starts at `start`.
    ///
    /// Errors: a kind that there is not.
    pub fn spec(&self, start: EventTime) -> Result<FleetSpec, CaseError> {
        let fleet = &self.fleet;
        let kind = |(name, weight): (&String, &u32)| {
            let known = || Kind::ALL.map(|kind| kind.spec().name).join(", ");
            let kind = Kind::named(name).ok_or_else(|| CaseError::Kind { name: name.clone(), known: known() })?;
            Ok((kind, *weight))
        };
        let shapes = match self.source.posting() {
            None => vec![(Shape::Own, 1)],
            Some(Posting { shapes, .. }) => shapes.iter().map(|(shape, weight)| (shape.shape(), *weight)).collect(),
        };
        Ok(FleetSpec {
            devices: fleet.devices,
            seed: fleet.seed,
            start,
            // Negative and absurd ones become periods that the fleet refuses.
            period_us: (fleet.period_s * 1e6).round() as u64,
            jitter: fleet.jitter,
            duplicates_share: fleet.duplicates,
            out_of_order_share: fleet.out_of_order,
            out_of_order_ms_max: (fleet.out_of_order_s_max * 1e3) as u64,
            lateness_horizon_us: (fleet.lateness_horizon_s * 1e6) as i64,
            late_share: fleet.late,
            bad_share: fleet.bad,
            unchanged_share: fleet.unchanged,
            probes: fleet.probes,
            kinds: fleet.kinds.iter().map(kind).collect::<Result<_, CaseError>>()?,
            shapes,
        })
    }
}

impl Source {
    /// What is posted, where something is.
    pub fn posting(&self) -> Option<&Posting> {
        match self {
            Self::Log { then, .. } => then.as_ref(),
            Self::Http(posting) => Some(posting),
        }
    }

    /// As [`Self::posting`].
    pub fn posting_mut(&mut self) -> Option<&mut Posting> {
        match self {
            Self::Log { then, .. } => then.as_mut(),
            Self::Http(posting) => Some(posting),
        }
    }
}

impl Posting {
    /// Gives how the sender is to send.
    pub fn send_options(&self) -> SendOptions {
        SendOptions {
            connections: self.connections,
            batch_max: self.batch_max,
            batch_wait: Duration::from_millis(self.batch_wait_ms),
            pace: match self.pace {
                CasePace::Schedule => Pace::Schedule,
                CasePace::Fast => Pace::Fast,
            },
            ..SendOptions::default()
        }
    }

    /// How long.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.duration_s)
    }
}

impl CaseShape {
    fn shape(self) -> Shape {
        match self {
            Self::Ttn => Shape::Ttn,
            Self::Chirpstack => Shape::ChirpStack,
            Self::Own => Shape::Own,
        }
    }
}

fn one() -> usize {
    1
}

fn first() -> u64 {
    1
}

fn twenty() -> f64 {
    20.0
}

fn ten_minutes() -> f64 {
    600.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Fleet;

    #[test]
    fn every_shipped_case_can_be_used() {
        for shipped in SHIPPED {
            let (case, _) = Case::find(shipped.name).unwrap_or_else(|error| panic!("{}: {error}", shipped.name));
            let spec = case.spec(EventTime(0)).unwrap();
            // A thousandth of it, for a spec is checked when the fleet is made.
            Fleet::new(FleetSpec { devices: spec.devices.min(1_000), ..spec }).unwrap();
        }
    }

    #[test]
    fn every_case_in_the_folder_ships() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/bench-data/cases");
        let mut found: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        let mut shipped = SHIPPED.map(|shipped| shipped.name);
        shipped.sort_unstable();
        assert_eq!(found, shipped);
    }

    #[test]
    fn a_folder_is_a_case_and_mistakes_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("case.toml");
        let name = dir.path().to_str().unwrap();
        assert!(Case::find(name).unwrap_err().to_string().contains("smoke"));
        let smoke = SHIPPED[0].case;
        std::fs::write(&file, smoke).unwrap();
        std::fs::write(dir.path().join("baseline.json"), r#"{"seconds": 3.0}"#).unwrap();
        assert_eq!(Case::find(name).unwrap().1.unwrap()["seconds"], 3.0);
        std::fs::write(&file, format!("devicess = 3\n{smoke}")).unwrap();
        assert!(Case::find(name).unwrap_err().to_string().contains("devicess"));
        std::fs::write(&file, smoke.replace("milesight-am307-five", "milesight")).unwrap();
        let error = Case::find(name).unwrap().0.spec(EventTime(0)).unwrap_err();
        assert!(error.to_string().contains("decentlab-dl5tm"), "{error}");
    }
}
