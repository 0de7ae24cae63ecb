//! The shapes in which uplinks come, and what every parser of them is given and gives.

use super::problem::Problem;
use super::{Limits, chirpstack, own, ttn};
use dataflows::model::{DeviceId, EventTime, TenantNo, Uplink};

/// Whose envelope it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// A webhook of The Things Stack v3.
    Ttn,
    /// An event of ChirpStack v4's HTTP integration as JSON, of the kind that its query names.
    ChirpStack(Option<chirpstack::Event>),
    /// weir's own.
    Own,
}

/// What a parser knows beside the text.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Whose token sent it.
    pub tenant: TenantNo,
    /// When it came in: the event time of what names none.
    pub now: EventTime,
    /// The bounds.
    pub limits: &'a Limits,
    /// Whether a device's template decodes by itself (see [`super::Intake::decodes`]).
    pub decodes: &'a dyn Fn(&DeviceId) -> bool,
}

/// What a text says.
#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub enum Parsed {
    /// An uplink.
    Uplink(Box<Uplink>),
    /// An event that carries no uplink, such as a join: well-formed, and nothing to keep.
    Skipped,
}

impl Shape {
    /// Parses one item, a JSON text.
    ///
    /// Errors: the text is no JSON, of another shape, or holds something that cannot be used.
    pub fn parse(self, text: &str, context: &Context<'_>) -> Result<Parsed, Problem> {
        match self {
            Self::Ttn => ttn::parse(text, context),
            Self::ChirpStack(event) => chirpstack::parse(text, event, context),
            Self::Own => own::parse(text, context),
        }
    }

    /// The word for it in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ttn => "ttn",
            Self::ChirpStack(_) => "chirpstack",
            Self::Own => "own",
        }
    }
}
