//! Owns the bars of a case: what its figures must hold.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the figures of a run must hold; a bar that is not there holds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bars {
    /// The load was the one that was asked for.
    #[serde(default)]
    pub kept_schedule: bool,
    /// Least share of the physical limit's speed.
    pub ratio_to_limit_min: Option<f64>,
    /// Least measurements from the full log to committed rows. Unit: 1/s.
    pub measurements_per_s_min: Option<f64>,
    /// Most processor time of weir for a million measurements. Unit: seconds.
    pub cpu_s_per_million_weir_max: Option<f64>,
    /// The same of weir and PostgreSQL together. Unit: seconds.
    pub cpu_s_per_million_max: Option<f64>,
    /// Most memory of weir. Unit: bytes.
    pub rss_bytes_max: Option<f64>,
    /// From due to acknowledged. Unit: milliseconds.
    pub acknowledged_p99_ms_max: Option<f64>,
    /// From due to visible in a SELECT, of half of them. Unit: milliseconds.
    pub visible_p50_ms_max: Option<f64>,
    /// The same of all but a hundredth. Unit: milliseconds.
    pub visible_p99_ms_max: Option<f64>,
    /// From due to visible in a SELECT, of all but a hundredth of those that were due within a second of a checkpoint's commit
    /// behind a full log. Unit: milliseconds.
    pub visible_at_checkpoints_p99_ms_max: Option<f64>,
    /// Reading one series' day while the log is worked off, of half of the readings. Unit: milliseconds.
    pub series_day_read_p50_ms_max: Option<f64>,
    /// From a restart after `kill -9` to caught up. Unit: seconds.
    pub restart_s_max: Option<f64>,
}

/// How a bar held.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct BarResult {
    /// Which, by its name in the case.
    pub bar: &'static str,
    /// What it asks.
    pub asked: Value,
    /// What was found; null: it was not measured in this run.
    pub found: Value,
    /// Whether it held; null: it was not measured in this run.
    pub pass: Option<bool>,
}

/// Where a bar's figure stands in the report.
enum Ask {
    Least(f64),
    Most(f64),
}

impl Bars {
    /// Holds the figures of a report against the bars.
    pub fn results(&self, figures: &Value) -> Vec<BarResult> {
        let least = |value: Option<f64>| value.map(Ask::Least);
        let most = |value: Option<f64>| value.map(Ask::Most);
        let numbers = [
            ("ratio_to_limit_min", least(self.ratio_to_limit_min), "/ratio_to_limit"),
            ("measurements_per_s_min", least(self.measurements_per_s_min), "/measurements_per_s"),
            ("cpu_s_per_million_weir_max", most(self.cpu_s_per_million_weir_max), "/cpu_s_per_million/weir"),
            ("cpu_s_per_million_max", most(self.cpu_s_per_million_max), "/cpu_s_per_million/both"),
            ("rss_bytes_max", most(self.rss_bytes_max), "/rss_max_bytes"),
            ("acknowledged_p99_ms_max", most(self.acknowledged_p99_ms_max), "/latency_ms/acknowledged/p99"),
            ("visible_p50_ms_max", most(self.visible_p50_ms_max), "/latency_ms/visible_in_select/p50"),
            ("visible_p99_ms_max", most(self.visible_p99_ms_max), "/latency_ms/visible_in_select/p99"),
            (
                "visible_at_checkpoints_p99_ms_max",
                most(self.visible_at_checkpoints_p99_ms_max),
                "/then/latency_ms/visible_at_checkpoints/p99",
            ),
            ("series_day_read_p50_ms_max", most(self.series_day_read_p50_ms_max), "/latency_ms/series_day_read/p50"),
            ("restart_s_max", most(self.restart_s_max), "/restart/after_kill_s"),
        ];
        let number = |(bar, ask, pointer): (&'static str, Option<Ask>, &str)| {
            let ask = ask?;
            let found = figures.pointer(pointer).cloned().unwrap_or(Value::Null);
            let (asked, pass) = match ask {
                Ask::Least(least) => (least, found.as_f64().map(|found| found >= least)),
                Ask::Most(most) => (most, found.as_f64().map(|found| found <= most)),
            };
            Some(BarResult { bar, asked: asked.into(), found, pass })
        };
        let kept_schedule = self.kept_schedule.then(|| {
            let found = figures["kept_schedule"].clone();
            BarResult { bar: "kept_schedule", asked: true.into(), pass: found.as_bool(), found }
        });
        kept_schedule.into_iter().chain(numbers.into_iter().filter_map(number)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bars_pass_miss_or_are_not_measured() {
        let bars = Bars {
            kept_schedule: true,
            measurements_per_s_min: Some(100.0),
            rss_bytes_max: Some(1000.0),
            ratio_to_limit_min: Some(0.5),
            ..Bars::default()
        };
        let check = |figures: Value, expected: [Option<bool>; 4]| {
            let results = bars.results(&figures);
            assert_eq!(results.iter().map(|result| result.pass).collect::<Vec<_>>(), expected, "{results:?}");
        };
        check(json!({}), [None; 4]);
        let figures = json!({"kept_schedule": false, "measurements_per_s": 100.0, "rss_max_bytes": 1001, "ratio_to_limit": 0.7});
        check(figures, [Some(false), Some(true), Some(true), Some(false)]);
        assert!(Bars::default().results(&json!({})).is_empty());
    }
}
