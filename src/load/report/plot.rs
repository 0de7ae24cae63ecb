//! Owns the plots: lines over time as inline SVG, without a script.

use std::fmt::Write as _;

/// Size of a plot, and of the frame within it that the lines are in. Unit: pixels.
const SIZE: (f64, f64) = (640.0, 220.0);
const FRAME: (f64, f64, f64, f64) = (64.0, 12.0, 628.0, 190.0);
/// Colours that also differ for people who do not see all of them.
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];
/// More points than this are not told apart on a screen; each of these shows the largest of those that it stands for.
const POINTS_MAX: usize = 600;

/// A line of a plot.
pub(super) struct Line {
    pub(super) name: &'static str,
    /// Seconds, and values.
    pub(super) points: Vec<(f64, f64)>,
}

/// Draws lines over one time axis, from zero up.
pub(super) fn svg(unit: &str, lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| &line.points);
    let time_max = all().map(|(time, _)| *time).fold(1.0, f64::max);
    let step = nice_step(all().map(|(_, value)| *value).fold(0.0, f64::max));
    let value_max = step * 4.0;
    let (left, top, right, bottom) = FRAME;
    let x = |time: f64| left + (right - left) * time / time_max;
    let y = |value: f64| bottom - (bottom - top) * value / value_max;
    let mut svg = format!(r#"<svg viewBox="0 0 {} {}" role="img">"#, SIZE.0, SIZE.1);
    // A String takes everything, here and below.
    for value in (0..=4).map(|n| f64::from(n) * step) {
        let at = y(value);
        let _ = write!(svg, r##"<line x1="{left}" x2="{right}" y1="{at:.1}" y2="{at:.1}" stroke="#ddd"/>"##);
        let _ = write!(svg, r#"<text x="{}" y="{:.1}" text-anchor="end">{}</text>"#, left - 6.0, at + 4.0, short(value));
    }
    for time in (0..=4).map(|n| f64::from(n) * time_max / 4.0) {
        let label = short(if time_max >= 20.0 { time.round() } else { time });
        let _ = write!(svg, r#"<text x="{:.1}" y="{}" text-anchor="middle">{label} s</text>"#, x(time), bottom + 18.0);
    }
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let group = line.points.len().div_ceil(POINTS_MAX).max(1);
        let points = line.points.chunks(group).map(|points| {
            let highest = points.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
            format!("{:.1},{:.1}", x(points[0].0), y(highest))
        });
        let points = points.collect::<Vec<_>>().join(" ");
        let _ = write!(svg, r#"<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>"#);
    }
    svg.push_str("</svg><p>");
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let _ = write!(svg, r#"<span style="color:{colour}">■</span> {} ({unit}) "#, line.name);
    }
    svg.push_str("</p>");
    svg
}

/// Gives the quarter of an axis that holds `max`: 1, 2, 2.5 or 5 times a power of ten.
fn nice_step(max: f64) -> f64 {
    if !(max.is_finite() && max > 0.0) {
        return 0.25;
    }
    let least = max / 4.0;
    let power = 10f64.powf(least.log10().floor());
    let factors = [1.0, 2.0, 2.5, 5.0, 10.0];
    factors.map(|factor| factor * power).into_iter().find(|step| *step >= least).unwrap_or(10.0 * power)
}

fn short(value: f64) -> String {
    match value {
        value if value >= 1e9 => format!("{} G", trimmed(value / 1e9)),
        value if value >= 1e6 => format!("{} M", trimmed(value / 1e6)),
        value if value >= 1e4 => format!("{} k", trimmed(value / 1e3)),
        value => trimmed(value),
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_figures_above_the_largest_value() {
        let check = |max: f64, expected: f64| assert!((nice_step(max) - expected).abs() < 1e-9 * expected, "{max}");
        check(4.0, 1.0);
        check(4.1, 2.0);
        check(9.5, 2.5);
        check(100.0, 25.0);
        check(0.039, 0.01);
        check(0.0, 0.25);
        check(f64::NAN, 0.25);
    }

    #[test]
    fn figures_are_short() {
        let check = |value: f64, expected: &str| assert_eq!(short(value), expected);
        check(0.0, "0");
        check(2.5, "2.5");
        check(9_999.0, "9999");
        check(25_000.0, "25 k");
        check(1.5e6, "1.5 M");
    }

    #[test]
    fn a_plot_has_a_line_for_each_and_keeps_the_peaks() {
        let spike = (0..6_000).map(|n| (f64::from(n), if n == 3_333 { 100.0 } else { 1.0 })).collect();
        let svg = svg("ms", &[Line { name: "one", points: spike }, Line { name: "none", points: Vec::new() }]);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains(&format!(",{:.1}", FRAME.1)), "the spike touches the top");
        assert!(svg.len() < 20_000, "{}", svg.len());
    }
}
