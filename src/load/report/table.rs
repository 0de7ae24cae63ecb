//! The figures as a table for people, and the same rows for the page.

use super::{Latency, Report, SERIES_DAY};

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
    row("memory of weir", format!("{:.0} MB", figures.rss_max_bytes as f64 / 1e6));
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
    row("largest lag", format!("{} records", figures.lag_records_max));
    if let Some(restart) = figures.restart {
        row("caught up after kill -9", format!("{:.2} s", restart.after_kill_s));
        row("stopped, caught up after that", format!("{:.2} s, {:.2} s", restart.stop_s, restart.after_stop_s));
    }
    for outcome in report.limit.iter().flat_map(|limit| &limit.variants) {
        let cpu = outcome.postgres_cpu_s_per_million.map_or_else(String::new, |cpu| format!(", {cpu:.2} CPU-s a million"));
        let name = format!("COPY {}, {} conn.", outcome.variant, outcome.connections);
        let indexed = outcome.indexed_seconds.map_or_else(String::new, |seconds| format!(", indexed {seconds:.1} s"));
        row(&name, format!("{:.1} s, {:.0} rows/s{cpu}{indexed}", outcome.seconds, outcome.rows_per_s));
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
