//! The page: figures and plots in one file that needs nothing else.

use super::Report;
use super::plot::{Line, svg};
use super::table::rows;
use crate::load::process::Usage;
use crate::load::sample::Sample;
use std::fmt::Write as _;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1340px;margin:2em auto;padding:0 1em;color:#222}\
    table{border-collapse:collapse}td{padding:.15em 1em .15em 0;vertical-align:top}\
    .plots{display:flex;flex-wrap:wrap;gap:1em}figure{margin:0;width:640px;max-width:100%}svg{width:100%}\
    svg text{font-size:11px;fill:#555}figcaption{font-weight:600}p{margin:.2em 0 1em}";

pub(super) fn page(report: &Report) -> String {
    let title = format!("weir load {}", escape(&report.case));
    let mut page =
        format!("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style>");
    // A String takes everything, here and below.
    let _ = write!(
        page,
        "<h1>{title}</h1><p>{}</p><p>{}, {}</p>",
        escape(&report.about),
        report.at,
        escape(&report.machine.processor)
    );
    page.push_str("<table>");
    for (name, value) in rows(report) {
        let _ = write!(page, "<tr><td>{}</td><td>{}</td></tr>", escape(&name), escape(&value));
    }
    page.push_str("</table><h2>Over time</h2><div class=\"plots\">");
    for (caption, unit, lines) in plots(&report.samples) {
        let _ = write!(page, "<figure><figcaption>{caption}</figcaption>{}</figure>", svg(unit, &lines));
    }
    page.push_str("</div></html>\n");
    page
}

/// What is drawn: caption, unit, lines.
fn plots(samples: &[Sample]) -> Vec<(&'static str, &'static str, Vec<Line>)> {
    let level = |name, of: &dyn Fn(&Sample) -> Option<f64>| Line {
        name,
        points: samples.iter().filter_map(|sample| Some((sample.at_s, of(sample)?))).collect(),
    };
    // The difference of two samples, over the time between them.
    let rate = |name, of: &dyn Fn(&Sample) -> Option<f64>| {
        let pairs = samples.windows(2).map(|pair| (&pair[0], &pair[1])).filter(|(before, now)| now.at_s > before.at_s);
        let points = pairs.filter_map(|(before, now)| Some((now.at_s, (of(now)? - of(before)?) / (now.at_s - before.at_s))));
        Line { name, points: points.collect() }
    };
    let cpu = |usage: Option<Usage>| usage.map(|usage| usage.cpu_s);
    let mb = |usage: Option<Usage>| usage.map(|usage| usage.rss_bytes as f64 / 1e6);
    let commit_rows = samples.windows(2).filter_map(|pair| {
        let [before, now] = [pair[0].commits, pair[1].commits];
        let commits = now.count.saturating_sub(before.count);
        (commits > 0).then(|| (pair[1].at_s, now.rows.saturating_sub(before.rows) as f64 / commits as f64))
    });
    vec![
        (
            "Throughput",
            "1/s",
            vec![
                rate("measurements", &|s| Some(s.measurements as f64)),
                rate("acknowledged uplinks", &|s| Some(s.acknowledged as f64)),
            ],
        ),
        (
            "Acknowledged, from due",
            "ms",
            vec![level("p50", &|s| s.acknowledged_p50_ms), level("p99", &|s| s.acknowledged_p99_ms)],
        ),
        ("Lag", "records", vec![level("acknowledged, not committed", &|s| Some(s.lag_records as f64))]),
        ("Commit size", "rows", vec![Line { name: "mean of the second", points: commit_rows.collect() }]),
        (
            "Processor",
            "cores",
            vec![
                rate("weir", &|s| cpu(Some(s.weir))),
                rate("PostgreSQL", &|s| cpu(s.postgres)),
                rate("not given by the host", &|s| s.processors.map(|processors| processors.stolen_s)),
            ],
        ),
        ("Memory", "MB", vec![level("weir", &|s| mb(Some(s.weir))), level("PostgreSQL", &|s| mb(s.postgres))]),
    ]
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plots_show_rates_and_levels() {
        let sample = |at_s: f64, measurements: u64, commits: (u64, u64)| {
            let mut sample = Sample { at_s, measurements, lag_records: 7, ..Sample::default() };
            (sample.commits.count, sample.commits.rows) = commits;
            sample
        };
        let plots = plots(&[sample(0.0, 0, (0, 0)), sample(2.0, 100, (4, 400)), sample(3.0, 100, (4, 400))]);
        let points = |plot: usize| plots[plot].2[0].points.clone();
        assert_eq!(points(0), [(2.0, 50.0), (3.0, 0.0)]);
        assert_eq!(points(2), [(0.0, 7.0), (2.0, 7.0), (3.0, 7.0)]);
        assert_eq!(points(3), [(2.0, 100.0)]);
        assert!(points(1).is_empty());
    }

    #[test]
    fn what_people_wrote_stays_text() {
        assert_eq!(escape("a <b> & c"), "a &lt;b&gt; &amp; c");
    }
}
