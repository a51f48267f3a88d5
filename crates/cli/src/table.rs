//! Text tables with aligned columns.
use std::fmt::Write;

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows under a heading; widths follow the content.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
    indent: usize,
}

impl Table {
    /// A table with these columns; a name that begins with `>` is a column of numbers.
    pub(crate) fn new(columns: &[&str]) -> Table {
        let align = columns.iter().map(|c| if c.starts_with('>') { Align::Right } else { Align::Left });
        let heads = columns.iter().map(|c| c.trim_start_matches('>').to_owned()).collect();
        Table { align: align.collect(), rows: vec![heads], indent: 2 }
    }

    /// Adds a row. Missing cells are empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Whether it has no row beside its heading.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// The text, each line ended; `paint` colours the heading line.
    pub(crate) fn render(&self, paint: impl Fn(String) -> String) -> String {
        let cell = |row: &'_ [String], i: usize| row.get(i).map_or(String::new(), Clone::clone);
        let widths: Vec<usize> = (0..self.align.len())
            .map(|i| self.rows.iter().map(|r| width(&cell(r, i))).max().unwrap_or(0))
            .collect();
        let mut out = String::new();
        for (n, row) in self.rows.iter().enumerate() {
            let mut line = " ".repeat(self.indent);
            for (i, align) in self.align.iter().enumerate() {
                let text = cell(row, i);
                let gap = " ".repeat(widths[i] - width(&text));
                // Writing to a String does not fail.
                let _ = match align {
                    Align::Left => write!(line, "{text}{gap}  "),
                    Align::Right => write!(line, "{gap}{text}  "),
                };
            }
            let line = line.trim_end().to_owned();
            out.push_str(&if n == 0 { paint(line) } else { line });
            out.push('\n');
        }
        out
    }
}

/// Columns a text takes on a screen: colours take none.
fn width(text: &str) -> usize {
    let mut chars = 0;
    let mut in_escape = false;
    for c in text.chars() {
        match (in_escape, c) {
            (false, '\x1b') => in_escape = true,
            (false, _) => chars += 1,
            (true, 'm') => in_escape = false,
            (true, _) => {}
        }
    }
    chars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_colours_the_cells_have() {
        let mut table = Table::new(&["name", ">count", "note"]);
        table.row(["a".into(), "1".into(), "x".into()]);
        table.row(["\x1b[31mlonger\x1b[0m".into(), "1000".into()]);
        let text = table.render(|head| head);
        assert_eq!(text, "  name    count  note\n  a           1  x\n  \x1b[31mlonger\x1b[0m   1000\n");
    }
}
