//! Reads the table of brands.

use portcullis_threat::structure::brand::{BrandTable, LONGEST};

/// The section for a table of brands: lines of `NAMES | DOMAINS`, as the file tells
///
/// # Errors
/// What is wrong, with its line
pub fn brands(table: &str) -> Result<Vec<u8>, String> {
    let mut brands = BrandTable::default();
    for (number, line) in (1u32..).zip(table.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| format!("brands, line {number}: {what}");
        let (names, domains) = line
            .split_once('|')
            .ok_or_else(|| wrong("no `|`; write NAMES | DOMAINS"))?;
        for name in names.split_whitespace() {
            let (strong, name) = name
                .strip_prefix('~')
                .map_or((true, name), |rest| (false, rest));
            let plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if name.is_empty() || name.len() > LONGEST || !name.bytes().all(plain) {
                return Err(wrong(&format!(
                    "`{name}` is no name; write at most {LONGEST} of a-z, 0-9, -"
                )));
            }
            brands.names.push((name.into(), strong));
        }
        for domain in domains.split_whitespace() {
            match domain.strip_suffix(".*") {
                Some(label) => brands.labels.push(label.into()),
                None if domain.contains('.') => brands.owners.push(domain.into()),
                None => {
                    return Err(wrong(&format!(
                        "`{domain}` is no domain; write label.tld or label.*"
                    )));
                }
            }
        }
    }
    brands
        .write()
        .ok_or_else(|| String::from("brands: more than the section holds (65,535 bytes of names)"))
}
