//! The table on stdout, in Markdown: rows are figures, columns are servers, ratios are in
//! parentheses.

use super::mode::{Mode, Row, Unit};
use super::variant::Variant;
use super::Results;

/// Shown for a figure that a server does not have.
const NOTHING: &str = "–";

/// Prints the rows of one mode.
pub fn print(mode: &Mode, variants: &[&'static Variant], results: &Results) {
    let able = variants.iter().filter(|variant| mode.takes(variant));
    let columns: Vec<&str> = able.map(|variant| variant.name).collect();
    let mut lines =
        vec![[vec![format!("{}: {}", mode.name, mode.description)], to_owned(&columns)].concat()];
    for row in mode.rows {
        let cells: Vec<_> = columns.iter().map(|variant| cell(row, variant, results)).collect();
        if cells.iter().all(|cell| cell == NOTHING) {
            continue; // as what Redis took, where there is none
        }
        lines.push(std::iter::once(row.title.to_owned()).chain(cells).collect());
    }
    println!("{}", markdown(&lines));
}

fn to_owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn cell(row: &Row, variant: &str, results: &Results) -> String {
    let median = |variant: &str| {
        let series = results.iter().find(|(key, _)| **key == (row.case, variant));
        series.and_then(|(_, series)| series.median(row.figure))
    };
    let Some(value) = median(variant) else { return NOTHING.into() };
    let text = written(value, row.unit);
    match row.base.filter(|base| *base != variant).and_then(median) {
        Some(base) if base > 0.0 => format!("{text} ({:.2}×)", value / base),
        _ => text,
    }
}

/// Formats a figure in its unit.
pub fn written(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Micros => format!("{value:.2} µs"),
        Unit::Millis => format!("{:.1} ms", value / 1e3),
        Unit::Bytes if value.abs() >= f64::from(1 << 20) => {
            format!("{:.1} MiB", value / f64::from(1 << 20))
        }
        Unit::Bytes => format!("{value:.0} B"),
        Unit::Share => format!("{:.0}%", value * 100.0),
        Unit::PerSecond if value >= 1e6 => format!("{:.2} M/s", value / 1e6),
        Unit::PerSecond if value >= 1e4 => format!("{:.0} k/s", value / 1e3),
        Unit::PerSecond => format!("{:.1} k/s", value / 1e3),
    }
}

/// Formats rows of cells; the first row is the header.
pub fn markdown(lines: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (column, cell) in line.iter().enumerate() {
            let fill = width(column) - cell.chars().count();
            text.push_str(&format!("| {cell}{} ", " ".repeat(fill)));
        }
        text.push_str("|\n");
        if number == 0 {
            for column in 0..line.len() {
                text.push_str(&format!("|{}", "-".repeat(width(column) + 2)));
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_as_written() {
        assert_eq!(written(4.567, Unit::Micros), "4.57 µs");
        assert_eq!(written(15_250.0, Unit::Millis), "15.2 ms");
        assert_eq!(written(9_887.4, Unit::Bytes), "9887 B");
        assert_eq!(written(2_400_000.0, Unit::PerSecond), "2.40 M/s");
        assert_eq!(written(13_400.0, Unit::PerSecond), "13 k/s");
        assert_eq!(written(6_340.0, Unit::PerSecond), "6.3 k/s");
    }

    #[test]
    fn columns_line_up() {
        let line = |cells: &[&str]| to_owned(cells);
        let text = markdown(&[line(&["a", "µs"]), line(&["long", "1"])]);
        assert_eq!(text, "| a    | µs |\n|------|----|\n| long | 1  |\n");
    }
}
