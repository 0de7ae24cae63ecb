//! The answer to a query as CSV (RFC 4180): a head line, then a line for each point.
//!
//! Columns: `device,field,unit,kind,time`, the values, and for steps `open`. A location is one value,
//! `latitude,longitude` or `latitude,longitude,altitude`, in quotes; what is not known is empty.

use super::answer::{Answer, Cell};
use super::zone::Rfc3339;
use std::borrow::Cow;
use std::fmt::{self, Write};

impl Answer {
    /// Gives the CSV text.
    pub(super) fn csv(&self) -> String {
        let mut out = String::new();
        self.write_csv(&mut out).expect("writing to a text never fails");
        out
    }

    fn write_csv(&self, out: &mut String) -> fmt::Result {
        out.push_str("device,field,unit,kind,time");
        for column in &self.columns {
            write!(out, ",{column}")?;
        }
        out.push_str(if self.bucketed { ",open\r\n" } else { "\r\n" });
        for series in &self.series {
            let unit = quoted(series.unit.as_deref().unwrap_or_default());
            let device = quoted(self.device.as_str());
            let head = format!("{device},{},{unit},{}", quoted(&series.field), series.kind.as_str());
            for point in &series.points {
                write!(out, "{head},{}", Rfc3339(point.at, &self.zone))?;
                for value in &point.values {
                    out.push(',');
                    write_cell(out, value)?;
                }
                if self.bucketed {
                    write!(out, ",{}", point.open)?;
                }
                out.push_str("\r\n");
            }
        }
        Ok(())
    }
}

fn write_cell(out: &mut String, cell: &Cell) -> fmt::Result {
    match cell {
        Cell::Null => Ok(()),
        Cell::Number(number) => write!(out, "{number}"),
        Cell::Count(count) => write!(out, "{count}"),
        Cell::Boolean(truth) => write!(out, "{truth}"),
        Cell::Text(text) => out.write_str(&quoted(text)),
        Cell::Location { latitude, longitude, altitude: None } => write!(out, "\"{latitude},{longitude}\""),
        Cell::Location { latitude, longitude, altitude: Some(altitude) } => {
            write!(out, "\"{latitude},{longitude},{altitude}\"")
        }
    }
}

fn quoted(text: &str) -> Cow<'_, str> {
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")).into() } else { text.into() }
}
