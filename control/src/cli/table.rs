//! Tables for people: columns as wide as their widest cell.

/// Rows of text cells; the first row is the head.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<usize>,
}

impl Table {
    /// A table with this head; the columns of `right` (from 0) are numbers.
    pub fn new(head: &[&str], right: &[usize]) -> Self {
        Self { rows: vec![head.iter().map(ToString::to_string).collect()], right: right.to_vec() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table, each row ending in a line feed, without blanks at the ends of lines.
    pub fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                let padded = if self.right.contains(&column) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                };
                line.push_str(&padded);
                line.push_str("  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A length of time in its two largest units: `3m12s`, `2d4h`.
#[must_use]
pub fn seconds(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let first = units.iter().position(|(length, _)| seconds >= *length).unwrap_or(3);
    let (length, unit) = units[first];
    let mut text = format!("{}{unit}", seconds / length);
    if let Some((length, unit)) = units.get(first + 1) {
        let rest = seconds % units[first].0 / length;
        if rest > 0 {
            text.push_str(&format!("{rest}{unit}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", "COUNT"], &[1]);
        table.row(vec!["front".to_owned(), "7".to_owned()]);
        table.row(vec!["x".to_owned(), "123456".to_owned()]);
        assert_eq!(table.text(), "NAME    COUNT\nfront       7\nx      123456\n");
    }

    #[test]
    fn lengths_of_time() {
        for (number, text) in [(0, "0s"), (59, "59s"), (60, "1m"), (192, "3m12s"), (187_200, "2d4h")] {
            assert_eq!(seconds(number), text);
        }
    }
}
