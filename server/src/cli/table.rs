//! Text tables for people: columns as wide as their widest cell.

use std::fmt::Write as _;

/// How the cells of a column line up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows of cells under a header.
pub(super) struct Table {
    aligns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(columns: &[(&str, Align)]) -> Self {
        let (header, aligns) = columns.iter().map(|(name, align)| ((*name).to_owned(), *align)).unzip();
        Self { aligns, rows: vec![header] }
    }

    /// Adds a row; missing cells stay empty.
    pub(super) fn push(&mut self, mut cells: Vec<String>) {
        cells.resize(self.aligns.len(), String::new());
        self.rows.push(cells);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width_of =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.aligns.len()).map(width_of).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), align) in row.iter().zip(&widths).zip(&self.aligns) {
                let _ = match align {
                    Align::Left => write!(line, "{cell:<width$}  "),
                    Align::Right => write!(line, "{cell:>width$}  "),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A number for reading: grouped thousands, up to three decimals while it is small.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    let decimals = match value.abs() {
        size if size >= 1e15 || (size > 0.0 && size < 1e-3) => return format!("{value:.3e}"),
        size if size >= 1_000.0 || value == value.trunc() => 0,
        size if size >= 100.0 => 1,
        size if size >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    format!("{}{dot}{fraction}", grouped(whole))
}

/// Digits in groups of three, with commas.
fn grouped(whole: &str) -> String {
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut text = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("name", Align::Left), ("n", Align::Right)]);
        table.push(vec!["é".to_owned(), "1,000".to_owned()]);
        table.push(vec!["longer".to_owned()]);
        assert_eq!(table.to_string(), "name        n\né       1,000\nlonger\n");
    }

    #[test]
    fn numbers_keep_the_digits_that_matter() {
        let cases = [
            (0.0, "0"),
            (0.0004, "4.000e-4"),
            (1.5, "1.5"),
            (12.3456, "12.35"),
            (999.96, "1,000"),
            (1_234_567.8, "1,234,568"),
            (-12_345.0, "-12,345"),
            (2e18, "2.000e18"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text, "{value}");
        }
    }
}
