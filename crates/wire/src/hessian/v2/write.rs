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

/// Appends a string, cut after 4096 characters.
///
/// As Java reads it: characters outside the basic plane go as two surrogates of three bytes each.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    let units = text::units(text);
    match units {
        0..0x20 => out.push(units as u8),
        0x20..0x400 => out.extend_from_slice(&[0x30 + (units >> 8) as u8, units as u8]),
        _ => {
            out.push(b'S');
            out.extend_from_slice(&(units as u16).to_be_bytes());
        }
    }
    text::push_units(out, text, units);
}

/// Appends the definition of a class: the next object of it is [`push_object`]'s, by the order of definition.
pub fn push_class(out: &mut Vec<u8>, name: &str, fields: &[&str]) {
    out.push(b'C');
    push_string(out, name);
    push_int(out, fields.len() as i32);
    for field in fields {
        push_string(out, field);
    }
}

/// Begins an object of the `class`th class defined; its fields' values follow.
pub fn push_object(out: &mut Vec<u8>, class: u8) {
    if class < 0x10 {
        out.push(0x60 + class);
    } else {
        out.push(b'O');
        push_int(out, i32::from(class));
    }
}

/// Appends an empty list of a type: an array, if its name begins with `[`.
pub fn push_empty_list(out: &mut Vec<u8>, class: &str) {
    out.push(0x70);
    push_string(out, class);
}
