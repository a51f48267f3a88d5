//! The captured frames; `frames/NOTES.md` says where they come from.
use std::path::Path;

/// A frame and the name of its file.
pub(crate) struct Captured {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// Every frame whose name contains `part`, by name.
pub(crate) fn frames(part: &str) -> Vec<Captured> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames");
    let mut found: Vec<Captured> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "hex"))
        .map(|path| Captured {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            bytes: unhex(std::fs::read_to_string(&path).unwrap().trim()),
        })
        .filter(|frame| frame.name.contains(part))
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!found.is_empty(), "no frame named like {part}");
    found
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
