//! The reference in the docs is the one the loader's declarations make.

#[test]
fn the_reference_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/fields.md");
    let wanted = raddle_model::reference();
    if std::env::var_os("RADDLE_BLESS").is_some() {
        std::fs::write(path, wanted).expect("the reference can be written");
        return;
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/reference/fields.md is stale; run: RADDLE_BLESS=1 cargo test -p raddle-model --test reference"
    );
}

#[test]
fn the_reference_names_every_field_with_its_default() {
    let text = raddle_model::reference();
    for line in [
        "| `spec.limits.maxFrame` | size 1KiB..=1GiB | B, KiB, MiB, GiB | `64MiB` |",
        "| `spec.endpoints[].weight` | integer 0..=10000 |  | `100` |",
        "| `spec.retry.budget` | number 0..=1 | share | `0.2` |",
        "| `spec.rules[].when.header.<name>.regex` | regex |",
        "| `metadata.name` | text |  | required |",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
}
