//! The little that replies are written with.
use super::super::text;

/// Appends an int.
pub fn push_int(out: &mut Vec<u8>, n: i32) {
    text::push_int(out, n);
}

/// Appends a null.
pub fn push_null(out: &mut Vec<u8>) {
    out.push(b'N');
}

/// Appends a boolean.
pub fn push_bool(out: &mut Vec<u8>, value: bool) {
    out.push(if value { b'T' } else { b'F' });
}

/// Appends a string, cut after 4096 characters.
///
/// As Java reads it: characters outside the basic plane go as two surrogates of three bytes each.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    let units = text::units(text);
    if units < 0x20 {
        out.push(units as u8);
    } else {
        out.push(b'S');
        out.extend_from_slice(&(units as u16).to_be_bytes());
    }
    text::push_units(out, text, units);
}

/// Appends the definition of a class: the next object of it is [`push_object`]'s, by the order of definition.
pub fn push_class(out: &mut Vec<u8>, name: &str, fields: &[&str]) {
    out.push(b'O');
    push_int(out, name.len() as i32);
    out.extend_from_slice(name.as_bytes());
    push_int(out, fields.len() as i32);
    for field in fields {
        push_string(out, field);
    }
}

/// Begins an object of the `class`th class defined; its fields' values follow.
pub fn push_object(out: &mut Vec<u8>, class: i32) {
    out.push(b'o');
    push_int(out, class);
}

/// Appends an empty list of a type: an array, if its name begins with `[`.
pub fn push_empty_list(out: &mut Vec<u8>, class: &str) {
    out.extend_from_slice(b"Vt");
    out.extend_from_slice(&(class.len() as u16).to_be_bytes());
    out.extend_from_slice(class.as_bytes());
    out.extend_from_slice(b"n\0z");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_string_is_cut_between_characters() {
        let mut out = Vec::new();
        push_string(&mut out, &"😀".repeat(4000));
        assert_eq!(out.len(), 3 + 4096 * 3);
        let mut out = Vec::new();
        push_string(&mut out, &format!("a{}", "😀".repeat(4000)));
        assert_eq!(&out[..3], b"S\x0F\xFF");
    }
}
