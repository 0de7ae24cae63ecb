//! Reads the parameters of a request; unknown ones are refused, and so is one that is given twice.

use super::aggregate::{Aggregate, Fill};
use super::problem::Problem;
use super::step::{Resolution, Step};
use super::when::When;
use super::zone::zone;
use dataflows::model::DeviceId;
use jiff::tz::TimeZone;

/// What `GET /v1/query` asks.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Ask {
    pub(super) device: DeviceId,
    /// Fields by name; all when empty.
    pub(super) fields: Vec<String>,
    pub(super) from: When,
    pub(super) to: When,
    pub(super) resolution: Resolution,
    /// Absent: that of the device or its tenant.
    pub(super) zone: Option<TimeZone>,
    /// None for raw rows, else at least one.
    pub(super) aggregates: Vec<Aggregate>,
    pub(super) fill: Fill,
    /// Most raw points; absent: the default.
    pub(super) limit: Option<usize>,
    /// Absent: what the `Accept` header says.
    pub(super) format: Option<Format>,
}

/// How an answer is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    Json,
    Csv,
}

const KNOWN: [&str; 10] = ["device", "field", "from", "to", "step", "zone", "aggregate", "fill", "limit", "format"];
/// Most fields, aggregates or devices in a request.
const LIST_MAX: usize = 256;

impl Ask {
    /// Reads the pairs of a query string. Without `from` and `to` the last 24 hours are meant, without `step` the
    /// raw rows, without `aggregate` the mean (the time-weighted one below an hour).
    ///
    /// Errors: unknown, repeated or unreadable parameters, a missing `device`, and aggregates or fills that the
    /// step does not offer.
    pub(super) fn parse(pairs: &[(String, String)]) -> Result<Self, Problem> {
        refuse_unknown(pairs, &KNOWN)?;
        let resolution = match single(pairs, "step")? {
            Some(text) => Resolution::parse(text).map_err(|e| Problem::parameter("step", e))?,
            None => Resolution::Raw,
        };
        let time = |name, default| {
            let text = single(pairs, name)?.unwrap_or(default);
            When::parse(text).map_err(|e| Problem::parameter(name, e))
        };
        let named_zone = |name: &str| {
            let why = || format!("`{name}` is no IANA time zone: give one such as Europe/Paris or UTC");
            zone(name).ok_or_else(|| Problem::parameter("zone", why()))
        };
        let fill = single(pairs, "fill")?.map(|text| Fill::parse(text).ok_or(text));
        let fill = match (fill, resolution) {
            (None, _) => Fill::default(),
            (Some(_), Resolution::Raw) => return Err(Problem::parameter("fill", "raw rows have no gaps to fill: give a step")),
            (Some(Ok(fill)), Resolution::Step(_)) => fill,
            (Some(Err(text)), _) => {
                return Err(Problem::parameter("fill", format!("`{text}` is none of absent, null, previous")));
            }
        };
        Ok(Self {
            device: device(single(pairs, "device")?.ok_or_else(|| Problem::parameter("device", "is missing: name the device"))?)?,
            fields: list(pairs, "field")?,
            from: time("from", "-24h")?,
            to: time("to", "now")?,
            resolution,
            zone: single(pairs, "zone")?.map(named_zone).transpose()?,
            aggregates: aggregates(&list(pairs, "aggregate")?, resolution)?,
            fill,
            limit: single(pairs, "limit")?.map(limit).transpose()?,
            format: single(pairs, "format")?.map(format).transpose()?,
        })
    }
}

/// Reads the devices of `GET /v1/latest`.
///
/// Errors: unknown parameters, none or more than 256 devices, or one that is no name.
pub(super) fn latest(pairs: &[(String, String)]) -> Result<Vec<DeviceId>, Problem> {
    refuse_unknown(pairs, &KNOWN[..1])?;
    let names = list(pairs, "device")?;
    if names.is_empty() {
        return Err(Problem::parameter("device", "is missing: name one or more devices"));
    }
    names.iter().map(|name| device(name)).collect()
}

fn refuse_unknown(pairs: &[(String, String)], known: &[&str]) -> Result<(), Problem> {
    match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        Some((name, _)) => Err(Problem::UnknownParameter { name: name.clone(), known: known.join(", ") }),
        None => Ok(()),
    }
}

fn single<'a>(pairs: &'a [(String, String)], name: &'static str) -> Result<Option<&'a str>, Problem> {
    let mut values = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Problem::parameter(name, "is given more than once: give it once")),
    }
}

/// All values of a repeatable parameter, which may hold several with commas between; each once, order kept.
fn list(pairs: &[(String, String)], name: &'static str) -> Result<Vec<String>, Problem> {
    let mut values: Vec<String> = Vec::new();
    for value in pairs.iter().filter(|(key, _)| key == name).flat_map(|(_, value)| value.split(',')) {
        if value.is_empty() {
            return Err(Problem::parameter(name, "holds an empty name: leave it out or fill it in"));
        }
        if !values.iter().any(|known| known == value) {
            values.push(value.to_owned());
        }
        if values.len() > LIST_MAX {
            return Err(Problem::parameter(name, format!("names more than {LIST_MAX}: ask in several requests")));
        }
    }
    Ok(values)
}

fn device(text: &str) -> Result<DeviceId, Problem> {
    DeviceId::parse(text).map_err(|e| Problem::parameter("device", e))
}

fn aggregates(names: &[String], resolution: Resolution) -> Result<Vec<Aggregate>, Problem> {
    let step = match resolution {
        Resolution::Raw if names.is_empty() => return Ok(Vec::new()),
        Resolution::Raw => return Err(Problem::parameter("aggregate", "raw rows have no aggregates: give a step")),
        Resolution::Step(step) => step,
    };
    let fine = matches!(step, Step::Fine(_));
    if names.is_empty() {
        return Ok(vec![if fine { Aggregate::TimeWeightedMean } else { Aggregate::Mean }]);
    }
    let aggregate = |name: &String| {
        let offered = Aggregate::offered(fine);
        match Aggregate::parse(name) {
            None => Err(Problem::parameter("aggregate", format!("`{name}` is none of {offered}"))),
            Some(aggregate) if aggregate.fits(fine) => Ok(aggregate),
            Some(aggregate) => {
                let why = if fine { " (only changed rows are stored, so the others would be wrong below an hour)" } else { "" };
                Err(Problem::NotOffered { name: aggregate.as_str(), step: step.to_string(), offered, why })
            }
        }
    };
    names.iter().map(aggregate).collect()
}

fn limit(text: &str) -> Result<usize, Problem> {
    let limit = text.parse().ok().filter(|limit| *limit > 0);
    limit.ok_or_else(|| Problem::parameter("limit", format!("`{text}` is no number of points: give one from 1 up")))
}

fn format(text: &str) -> Result<Format, Problem> {
    match text {
        "json" => Ok(Format::Json),
        "csv" => Ok(Format::Csv),
        _ => Err(Problem::parameter("format", format!("`{text}` is neither json nor csv"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(query: &str) -> Vec<(String, String)> {
        let pair = |pair: &str| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap();
        query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect()
    }

    #[test]
    fn defaults_and_lists() {
        let ask = Ask::parse(&pairs("device=0004A30B001C0530&field=a,b&field=c&field=a")).unwrap();
        assert_eq!(ask.device.as_str(), "0004a30b001c0530");
        assert_eq!(ask.fields, ["a", "b", "c"]);
        assert_eq!((ask.resolution, ask.fill, ask.limit), (Resolution::Raw, Fill::Absent, None));
        assert_eq!((ask.from, ask.to), (When::parse("-24h").unwrap(), When::parse("now").unwrap()));
        let aggregates = |query: &str| Ask::parse(&pairs(query)).unwrap().aggregates;
        assert_eq!(aggregates("device=a&step=1h"), [Aggregate::Mean]);
        assert_eq!(aggregates("device=a&step=15m"), [Aggregate::TimeWeightedMean]);
        assert_eq!(aggregates("device=a&step=1h&aggregate=max,min"), [Aggregate::Max, Aggregate::Min]);
    }

    #[test]
    fn mistakes_are_told_with_the_way_out() {
        let check = |query: &str, expected: &str| {
            let detail = Ask::parse(&pairs(query)).expect_err(query).to_string();
            assert!(detail.contains(expected), "{query}: {detail}");
        };
        check("", "`device`: is missing");
        check("device=a b", "use letters, digits and punctuation");
        check("device=a&device=b", "`device`: is given more than once");
        check("device=a&feild=x", "no parameter is called `feild`: known are device, field,");
        check("device=a&field=", "`field`: holds an empty name");
        check("device=a&from=soon", "`from`: `soon` is no time");
        check("device=a&to=", "`to`: `` is no time");
        check("device=a&step=5h", "`step`: a step of 5h does not divide a day");
        check("device=a&zone=Paris", "`zone`: `Paris` is no IANA time zone");
        check("device=a&aggregate=mean", "`aggregate`: raw rows have no aggregates");
        check("device=a&step=1h&aggregate=median", "`median` is none of mean, min, max, sum, count, first, last");
        check("device=a&step=1m&aggregate=mean", "offered are time_weighted_mean, min, max, last (only changed rows");
        check("device=a&step=1h&aggregate=time_weighted_mean", "is not offered with step=1h: offered are mean,");
        check("device=a&fill=null", "`fill`: raw rows have no gaps");
        check("device=a&step=1h&fill=zero", "`zero` is none of absent, null, previous");
        check("device=a&limit=0", "`0` is no number of points");
        check("device=a&limit=-1", "`-1` is no number of points");
        check("device=a&format=xml", "`xml` is neither json nor csv");
        let many: Vec<_> = (0..257).map(|n| format!("&field=f{n}")).collect();
        check(&format!("device=a{}", many.concat()), "names more than 256");
    }

    #[test]
    fn latest_takes_devices_only() {
        assert_eq!(latest(&pairs("device=a&device=b,a")).unwrap().len(), 2);
        assert!(latest(&pairs("")).unwrap_err().to_string().contains("is missing"));
        assert!(latest(&pairs("device=a&field=b")).unwrap_err().to_string().contains("no parameter is called `field`"));
    }
}
