//! The user's reference of every kind and field, rendered from the declarations that decode them.
use crate::kinds;
use std::fmt::Write;

/// The reference in Markdown, as `docs/reference/fields.md` holds it.
pub fn reference() -> String {
    let mut out = String::from(PRELUDE);
    for kind in kinds::DOCUMENTED {
        let mut page = Page::default();
        (kind.fields)(&mut page);
        // Writing to a String does not fail.
        let _ = write!(out, "\n## {}\n\n{}\n\n", kind.name, kind.intro);
        out.push_str("| field | type | unit | default | meaning |\n|---|---|---|---|---|\n");
        for (path, row) in &page.rows {
            let Row { kind, unit, default, meaning } = row;
            let _ = writeln!(out, "| `{path}` | {kind} | {unit} | {default} | {meaning} |");
        }
    }
    let _ = write!(
        out,
        "\n## Kinds not read yet\n\nThese kinds of the full system are refused by this version in a static \
         file: {}.\n",
        kinds::LATER.map(|kind| format!("`{kind}`")).join(", ")
    );
    out
}

const PRELUDE: &str = "\
# Reference: every kind and field

<!-- Written by the loader's own field declarations. Do not edit: run
     RADDLE_BLESS=1 cargo test -p raddle-model --test reference -->

A configuration is one or more YAML (or JSON) files, each with any number of documents divided by `---`. \
Check one with `raddle check FILE`. Unknown fields, fields given twice and values out of bounds are errors; \
all of them are reported in one run with file, line and column.

How values are written:

- **duration**: number and unit, `250ms`, `1.5s`, `1m30s`. A bare number is refused: it would leave the unit \
to guessing.
- **size**: number and unit, `512B`, `64KiB`, `16MiB`; units are powers of 1024.
- **ip:port**: `127.0.0.1:12200`, `\"[::1]:12200\"`, or `localhost:12200` for 127.0.0.1. Other host names are \
refused.
- **percent**: `5` is five percent, `0.1` a tenth of a percent. **share**: `0.3` is three tenths.
- **text**: quotes are needed only around characters special to YAML; `version: 1.0` is the text `1.0`.
- **required** in the default column: the file is refused without it, wherever its parent is given.
- In field paths, `[]` is any item of a list and `<name>` any name you choose.
";

/// Collects rows while a kind's fields are declared.
#[derive(Default)]
pub(crate) struct Page {
    prefix: String,
    rows: Vec<(String, Row)>,
}

/// One line of the reference.
pub(crate) struct Row {
    pub(crate) kind: String,
    pub(crate) unit: &'static str,
    pub(crate) default: String,
    pub(crate) meaning: String,
}

impl Page {
    /// Adds a field, then whatever `inner` adds beneath it.
    pub(crate) fn field(&mut self, name: &str, row: Row, inner: impl FnOnce(&mut Page)) {
        let dot = if self.prefix.is_empty() { "" } else { "." };
        self.within(&format!("{dot}{name}"), |page| {
            page.rows.push((page.prefix.clone(), row));
            inner(page);
        });
    }

    /// Everything that `inner` adds has this suffix in its path.
    pub(crate) fn within(&mut self, suffix: &str, inner: impl FnOnce(&mut Page)) {
        let before = self.prefix.len();
        self.prefix.push_str(suffix);
        inner(self);
        self.prefix.truncate(before);
    }
}
