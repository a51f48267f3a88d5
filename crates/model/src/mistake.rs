//! What a bad configuration is answered with.
use std::fmt;

/// One thing wrong in a configuration file, with where it is and what would be right.
///
/// Displays as `shop.yaml:12:7: spec.endpoints[2].weight: 20000 is over 10000; give 0..=10000`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The source's name, as the caller gave it.
    pub file: String,
    /// 1-based line; 0 = the file as a whole.
    pub line: u32,
    /// 1-based column, in characters.
    pub column: u32,
    /// Path of the field from the document's root; empty = the document itself.
    pub path: String,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
        }
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.file.is_empty() || self.line > 0 {
            f.write_str(" ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.problem)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Why a configuration was not accepted: everything found in one run, by file and line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What must be mended; never empty in a report that [`load`](crate::load()) returns.
    pub mistakes: Vec<Mistake>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Mistake>,
}

impl fmt::Display for Report {
    /// Every mistake, then every warning, one a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.mistakes.iter().enumerate() {
            let end = if i == 0 { "" } else { "\n" };
            write!(f, "{end}{mistake}")?;
        }
        for warning in &self.warnings {
            write!(f, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}
