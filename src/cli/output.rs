//! How lists are printed: as a table for people, or one JSON object a line for programs.

use serde_json::Value;

/// Prints rows, all of which have the same keys.
pub(super) fn print(rows: &[Value], json: bool) {
    if json {
        rows.iter().for_each(|row| println!("{row}"));
    } else {
        print!("{}", table(rows));
    }
}

fn table(rows: &[Value]) -> String {
    let Some(Value::Object(first)) = rows.first() else { return "None.\n".into() };
    // A column that is empty in every row says nothing.
    let columns: Vec<&str> = first.keys().map(String::as_str).filter(|key| rows.iter().any(|row| !row[*key].is_null())).collect();
    let mut lines = vec![columns.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|column| cell(&row[*column])).collect()));
    let widths: Vec<usize> = (0..columns.len()).map(|i| lines.iter().map(|l| l[i].chars().count()).max().unwrap_or(0)).collect();
    let format = |line: &Vec<String>| {
        let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    lines.iter().map(format).collect()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_has_aligned_columns_and_no_empty_ones() {
        let rows = [json!({"a": "x", "b": null, "c": 1}), json!({"a": "long", "b": null, "c": null})];
        assert_eq!(table(&rows), "a     c\nx     1\nlong  -\n");
        assert_eq!(table(&[]), "None.\n");
    }
}
