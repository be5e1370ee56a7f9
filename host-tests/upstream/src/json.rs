//! Writing bytes as JSON strings.

/// Appends `bytes` as one JSON string: printable ASCII as itself, every other byte as `\u00XX`.
pub(crate) fn push_string(out: &mut String, bytes: &[u8]) {
    out.push('"');
    for &byte in bytes {
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                out.push_str("\\u00");
                for nibble in [byte >> 4, byte & 15] {
                    out.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
                }
            }
        }
    }
    out.push('"');
}

/// Appends `[["name","value"],...]`.
pub(crate) fn push_pairs(out: &mut String, pairs: &[(String, Vec<u8>)]) {
    out.push('[');
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push('[');
        push_string(out, name.as_bytes());
        out.push(',');
        push_string(out, value);
        out.push(']');
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_the_character_of_its_number() {
        let all: Vec<u8> = (0..=255).collect();
        let mut text = String::new();
        push_string(&mut text, &all);
        assert!(
            text.is_ascii() && text.contains(r##"\u001f !\"#$%"##) && text.ends_with("\\u00ff\"")
        );

        let mut characters = text.trim_matches('"').chars();
        let mut back = Vec::new();
        while let Some(character) = characters.next() {
            let number = match character {
                '\\' => match characters.next() {
                    Some('u') => {
                        let digits: String = characters.by_ref().take(4).collect();
                        u32::from_str_radix(&digits, 16).unwrap()
                    }
                    Some(escaped) => escaped.into(),
                    None => panic!("a lone backslash"),
                },
                plain => plain.into(),
            };
            back.push(u8::try_from(number).unwrap());
        }
        assert_eq!(back, all);
    }
}
