//! Tables and lists of fields, aligned for a terminal.

use std::fmt;

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use crate::ui::format::printable;

const HEAD: Style = Style::new().bold();
const LABEL: Style = Style::new().dimmed();
const GAP: &str = "  ";

/// A column of a [`Table`].
#[derive(Debug, Clone, Copy)]
pub struct Column {
    head: &'static str,
    side: Side,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl Column {
    /// Of texts.
    #[must_use]
    pub const fn left(head: &'static str) -> Self {
        Self { head, side: Side::Left }
    }

    /// Of numbers.
    #[must_use]
    pub const fn right(head: &'static str) -> Self {
        Self { head, side: Side::Right }
    }
}

/// Rows under a head. One without rows prints nothing.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table of these columns.
    #[must_use]
    pub fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it has not as many cells as there are columns.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl fmt::Display>) {
        let cells: Vec<String> = cells.into_iter().map(|cell| cell_text(&cell.to_string())).collect();
        assert_eq!(cells.len(), self.columns.len(), "a row has a cell for each column");
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            return Ok(());
        }
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|index| {
                let cells = self.rows.iter().map(|row| row[index].width());
                cells.chain([self.columns[index].head.width()]).max().unwrap_or_default()
            })
            .collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut text = String::new();
            for ((cell, column), width) in cells.zip(&self.columns).zip(&widths) {
                let padding = " ".repeat(width - cell.width());
                let padded = match column.side {
                    Side::Left => format!("{cell}{padding}{GAP}"),
                    Side::Right => format!("{padding}{cell}{GAP}"),
                };
                text.push_str(&padded);
            }
            text.trim_end().to_owned()
        };
        let head = line(&mut self.columns.iter().map(|column| column.head));
        writeln!(formatter, "{HEAD}{head}{HEAD:#}")?;
        for row in &self.rows {
            writeln!(formatter, "{}", line(&mut row.iter().map(String::as_str)))?;
        }
        Ok(())
    }
}

/// Labels and what they stand for, a line each.
#[derive(Debug, Default)]
pub struct Fields {
    fields: Vec<(&'static str, String)>,
}

impl Fields {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, label: &'static str, value: impl fmt::Display) -> Self {
        self.fields.push((label, cell_text(&value.to_string())));
        self
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.fields.iter().map(|(label, _)| label.width()).max().unwrap_or_default();
        for (label, value) in &self.fields {
            let padding = " ".repeat(width - label.width());
            writeln!(formatter, "{LABEL}{label}{LABEL:#}{padding}{GAP}{value}")?;
        }
        Ok(())
    }
}

/// A cell is one line.
fn cell_text(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::{Column, Fields, Table};

    fn plain(text: &impl ToString) -> String {
        anstream::adapter::strip_str(&text.to_string()).to_string()
    }

    #[test]
    fn columns_line_up_whatever_the_width_of_the_letters() {
        let mut table = Table::new([Column::left("NAME"), Column::right("SIZE")]);
        assert_eq!(plain(&table), "");
        table.row(["größe", "7"]);
        table.row(["大きさ", "1234567"]);
        assert_eq!(plain(&table), "NAME       SIZE\ngröße         7\n大きさ  1234567\n");
        let fields = Fields::new().field("id", "x").field("size", 3);
        assert_eq!(plain(&fields), "id    x\nsize  3\n");
    }

    #[test]
    fn a_hostile_name_stays_in_its_cell() {
        let mut table = Table::new([Column::left("NAME")]);
        table.row(["a\u{1b}[31m\nb"]);
        assert_eq!(plain(&table), "NAME\na\\u{1b}[31m\\nb\n");
    }
}
