//! The figures as a table for people, and the same rows for the page.

use super::{Figures, Latency, Report, SERIES_DAY};
use serde_json::Value;

/// One row: what it is, what was found.
pub(super) type Row = (String, String);

pub(super) fn table(report: &Report) -> String {
    let rows = rows(report);
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, value): &Row| format!("  {name:width$}  {value}\n");
    format!("{}: {}\n{}", report.case, report.about, rows.iter().map(line).collect::<String>())
}

/// Gives what there is to say; rows without a figure are left out.
pub(super) fn rows(report: &Report) -> Vec<Row> {
    let figures = &report.figures;
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    row("database", report.database.clone());
    row("workers, cores", format!("{}, {}", figures.workers, report.machine.cores));
    if let Some(verified) = figures.verified {
        row("verified", if verified { "yes: nothing lost, doubled, invented or wrong" } else { "NO" }.into());
    }
    row("uplinks", format!("{} in {:.1} s, {:.0}/s", figures.uplinks, figures.seconds, figures.uplinks_per_s));
    row("measurements", format!("{}, {:.0}/s", figures.measurements, figures.measurements_per_s));
    if let Some(ratio) = figures.ratio_to_limit {
        row("of the physical limit", format!("{:.0} %", ratio * 100.0));
    }
    if let Some(seconds) = figures.indexed_seconds {
        let of_limit =
            figures.ratio_to_limit_indexed.map_or_else(String::new, |ratio| format!(", {:.0} % of the limit", ratio * 100.0));
        row("all indexed", format!("after {seconds:.1} s{of_limit}"));
    }
    let cpu = figures.cpu_s_per_million;
    let postgres = cpu.postgres.map_or_else(|| "not on this machine".into(), |cpu| format!("{cpu:.2}"));
    row("CPU-s a million measurements", format!("{:.2} weir, {postgres} PostgreSQL", cpu.weir));
    if let Some(share) = figures.stolen_share {
        row("processor time not given by the host", format!("{:.0} % of what was wanted", share * 100.0));
    }
    row("memory of weir", format!("{:.0} MB", figures.rss_max_bytes as f64 / 1e6));
    rows.extend(timed(figures));
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    row("largest lag", format!("{} records", figures.lag_records_max));
    if let Some(restart) = figures.restart {
        row("caught up after kill -9", format!("{:.2} s", restart.after_kill_s));
        row("stopped, caught up after that", format!("{:.2} s, {:.2} s", restart.stop_s, restart.after_stop_s));
    }
    if let Some(then) = &figures.then {
        row("then, over HTTP", format!("{} uplinks in {:.1} s, {:.0}/s", then.uplinks, then.seconds, then.uplinks_per_s));
        rows.extend(timed(then).into_iter().map(|(name, value)| (format!("then {name}"), value)));
    }
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    if let Some(against) = report.baseline.as_ref().and_then(|baseline| against(figures, baseline)) {
        row("against the baseline", against);
    }
    for outcome in report.limit.iter().flat_map(|limit| &limit.variants) {
        let cpu = outcome.postgres_cpu_s_per_million.map_or_else(String::new, |cpu| format!(", {cpu:.2} CPU-s a million"));
        let name = format!("COPY {}, {} conn.", outcome.variant, outcome.connections);
        let indexed = outcome.indexed_seconds.map_or_else(String::new, |seconds| format!(", indexed {seconds:.1} s"));
        let stolen = outcome.stolen_share.map_or_else(String::new, |share| format!(", host took {:.0} %", share * 100.0));
        row(&name, format!("{:.1} s, {:.0} rows/s{cpu}{indexed}{stolen}", outcome.seconds, outcome.rows_per_s));
    }
    for bar in &report.bars {
        let verdict = match bar.pass {
            Some(true) => "pass",
            Some(false) => "MISS",
            None => "not measured",
        };
        row(&format!("bar {}", bar.bar), format!("{verdict}: asked {}, found {}", bar.asked, bar.found));
    }
    rows
}

/// What there is to say of schedule, latencies and commits.
fn timed(figures: &Figures) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    if let Some(sent) = &figures.sent {
        let kept = if sent.kept_schedule() { "kept" } else { "NOT KEPT: the load was less than asked for" };
        row("schedule", format!("{kept}; {} unsent, p99 {} ms late", sent.unsent, sent.behind_ms_p99));
        row("refused, unanswered", format!("{}, {}", sent.refused, sent.unanswered));
    }
    for (name, Latency { p50, p99, p999, max, count, .. }) in &figures.latency_ms {
        let from = if *name == SERIES_DAY { "" } else { ", from due" };
        row(&format!("{name}{from}"), format!("p50 {p50:.1}  p99 {p99:.1}  p99.9 {p999:.1}  max {max:.1} ms ({count})"));
    }
    let commits = &figures.commits;
    let ms = |mean: Option<f64>| mean.map_or_else(|| "-".into(), |mean| format!("{mean:.0} ms"));
    row("commits", format!("{}, {:.0} rows each", commits.count, commits.rows_mean));
    row(
        "… without, with checkpoint",
        format!(
            "{}, {} ({})",
            ms(commits.without_checkpoint_mean_ms),
            ms(commits.with_checkpoint_mean_ms),
            commits.with_checkpoint
        ),
    );
    rows
}

/// Tells how much this run took of what the committed one took: less than one is better. None where they share no figure.
fn against(figures: &Figures, baseline: &Value) -> Option<String> {
    let share = |name: &str, now: Option<f64>, before: &str| {
        let before = baseline.pointer(before)?.as_f64().filter(|before| *before > 0.0)?;
        Some(format!("{name} × {:.2}", now? / before))
    };
    let shares = [
        share("time", Some(figures.seconds), "/seconds"),
        share("CPU-seconds", figures.cpu_s_per_million.both, "/cpu_s_per_million/both"),
        share("memory", Some(figures.rss_max_bytes as f64), "/rss_max_bytes"),
    ];
    let shares: Vec<_> = shares.into_iter().flatten().collect();
    (!shares.is_empty()).then(|| shares.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::report::CpuPerMillion;
    use serde_json::json;

    #[test]
    fn a_run_is_held_against_the_committed_one_where_both_have_the_figure() {
        let cpu_s_per_million = CpuPerMillion { weir: 1.0, postgres: None, both: None };
        let figures = Figures { seconds: 30.0, rss_max_bytes: 500_000_000, cpu_s_per_million, ..Figures::default() };
        let baseline = json!({"seconds": 40.0, "cpu_s_per_million": {"both": 3.2}, "rss_max_bytes": 400_000_000});
        assert_eq!(against(&figures, &baseline).as_deref(), Some("time × 0.75, memory × 1.25"));
        assert_eq!(against(&figures, &json!({"seconds": 0.0})), None);
    }
}
