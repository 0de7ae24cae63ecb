//! How lists are printed: as a table for people, or one JSON object a line for programs.

use serde_json::Value;

/// Prints rows, which are objects; as a table, their values under `columns`, in that order.
pub(super) fn print(rows: &[Value], columns: &[&str], json: bool) {
    if json {
        rows.iter().for_each(|row| println!("{row}"));
    } else {
        print!("{}", table(rows, columns));
    }
}

fn table(rows: &[Value], columns: &[&str]) -> String {
    if rows.is_empty() {
        return "None.\n".into();
    }
    // A column that is empty in every row says nothing.
    let columns: Vec<&str> = columns.iter().copied().filter(|column| rows.iter().any(|row| !row[*column].is_null())).collect();
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
        assert_eq!(table(&rows, &["c", "b", "a"]), "c  a\n1  x\n-  long\n");
        assert_eq!(table(&[], &["a"]), "None.\n");
    }
}
