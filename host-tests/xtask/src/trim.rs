//! Takes the callbacks out of a module that its filter has no use for.
//!
//! The SDK exports every callback there is. Each that a host finds is called, and a call into the VM
//! that does nothing costs 0.2 to 0.35 us a request in Envoy. Their code goes too: 20 KB.

use std::collections::BTreeSet;

use crate::capabilities::{EXPORT, FUNCTION, IMPORT, Reader};
use crate::failure::{Failure, Result};

/// The callbacks that the filter answers; nothing else that begins with `proxy_on_` stays.
///
/// A request is let through when its callback is missing, so what is listed here and not in the
/// module is an error.
pub const CALLBACKS: [&str; 13] = [
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_http_call_response",
    "proxy_on_memory_allocate",
    "proxy_on_request_body",
    "proxy_on_request_headers",
    "proxy_on_request_trailers",
    "proxy_on_response_body",
    "proxy_on_response_headers",
    "proxy_on_response_trailers",
    "proxy_on_tick",
    "proxy_on_vm_start",
];

/// Functions of ours that a host is to find under the name of a callback, in place of the SDK's: that
/// one panics over an answer to a call that the SDK did not make.
const OURS: [(&str, &str); 1] = [(
    "portcullis_on_http_call_response",
    "proxy_on_http_call_response",
)];

/// The module without its other callbacks, and their functions without what is in them.
///
/// Only a host calls a callback. Were there another who did, it would trap, in every test.
///
/// # Errors
///
/// When `module` is no WebAssembly module, or lacks a callback.
pub fn trim(module: &[u8]) -> Result<Vec<u8>> {
    let malformed = || {
        Failure::new(
            "the module is not well-formed WebAssembly",
            "build it again with `cargo xtask wasm`",
        )
    };
    let mut trimmed = module.get(..HEADER).ok_or_else(malformed)?.to_vec();
    let mut reader = Reader::new(module).ok_or_else(malformed)?;
    let mut kept = Vec::new();
    let mut imports = 0;
    let mut useless = BTreeSet::new();
    while !reader.is_at_end() {
        let (id, content) = reader.section().ok_or_else(malformed)?;
        let section = Reader::inside(content);
        match id {
            // Functions alone: `capabilities` refuses a module that imports anything else.
            IMPORT => imports = Reader::inside(content).number().ok_or_else(malformed)?,
            EXPORT => {
                let exports = section.exports(&mut kept, &mut useless);
                put_section(&mut trimmed, id, &exports.ok_or_else(malformed)?);
                continue;
            }
            CODE => {
                let code = section.code(imports, &useless);
                put_section(&mut trimmed, id, &code.ok_or_else(malformed)?);
                continue;
            }
            _ => {}
        }
        put_section(&mut trimmed, id, content);
    }
    match CALLBACKS
        .iter()
        .find(|name| !kept.iter().any(|kept| kept == *name))
    {
        None => Ok(trimmed),
        Some(missing) => Err(Failure::new(
            format!("the module does not export {missing}"),
            "is it the filter? build it with `cargo xtask wasm`",
        )),
    }
}

/// The section of functions' bodies.
const CODE: u8 = 10;

/// A body without locals: `unreachable`, `end`.
const NOTHING: [u8; 3] = [0, 0x00, 0x0b];

/// `\0asm` and the version.
const HEADER: usize = 8;

impl Reader<'_> {
    /// The content of an export section, as far as it stays; notes the names, and which functions
    /// are exported no more.
    fn exports(mut self, kept: &mut Vec<String>, useless: &mut BTreeSet<u32>) -> Option<Vec<u8>> {
        // A module that was trimmed before has ours under that name already.
        let replaces = Self::inside(self.rest()).has_ours()?;
        let mut useful = BTreeSet::new();
        let mut entries = Vec::new();
        let mut count = 0_u32;
        for _ in 0..self.number()? {
            let name = self.name()?;
            let kind = self.byte()?;
            let index = self.number()?;
            let replaced = OURS.iter().any(|(_, callback)| name == *callback) && replaces;
            let is_callback = name.starts_with("proxy_on_");
            if replaced || is_callback && !CALLBACKS.contains(&name.as_str()) {
                (kind == FUNCTION).then_some(())?;
                useless.insert(index);
                continue;
            }
            if kind == FUNCTION {
                useful.insert(index);
            }
            let ours = OURS.iter().find(|(ours, _)| name == *ours);
            let name = ours.map_or(name, |(_, callback)| (*callback).to_owned());
            count = count.checked_add(1)?;
            put_number(&mut entries, u32::try_from(name.len()).ok()?);
            entries.extend(name.as_bytes());
            entries.push(kind);
            put_number(&mut entries, index);
            kept.push(name);
        }
        let mut content = Vec::new();
        put_number(&mut content, count);
        content.extend(entries);
        // Two callbacks that do the same may be one function.
        useless.retain(|index| !useful.contains(index));
        Some(content)
    }

    /// Whether an export section has functions of ours that replace callbacks.
    fn has_ours(mut self) -> Option<bool> {
        let mut found = false;
        for _ in 0..self.number()? {
            let name = self.name()?;
            self.byte()?;
            self.number()?;
            found |= OURS.iter().any(|(ours, _)| name == *ours);
        }
        Some(found)
    }

    /// The content of a code section, with nothing in the useless functions.
    fn code(mut self, imports: u32, useless: &BTreeSet<u32>) -> Option<Vec<u8>> {
        let count = self.number()?;
        let mut content = Vec::new();
        put_number(&mut content, count);
        for index in 0..count {
            let body = self.bytes()?;
            let is_useless = useless.contains(&index.checked_add(imports)?);
            let body = if is_useless { &NOTHING } else { body };
            put_number(&mut content, u32::try_from(body.len()).ok()?);
            content.extend(body);
        }
        Some(content)
    }
}

fn put_section(module: &mut Vec<u8>, id: u8, content: &[u8]) {
    module.push(id);
    put_number(module, u32::try_from(content.len()).unwrap_or(u32::MAX));
    module.extend(content);
}

/// An unsigned LEB128 number.
fn put_number(bytes: &mut Vec<u8>, mut number: u32) {
    while number > 0x7f {
        bytes.push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities;

    const IMPORTED: u32 = 3;
    const BODY: [u8; 4] = [0, 0x01, 0x01, 0x0b];

    /// A module with these exports, functions from the 150th on, and with nothing in some of them.
    fn module(exported: &[(&str, u32)], empty: &[u32]) -> Vec<u8> {
        let count = |items: usize| u8::try_from(items).unwrap();
        let mut imports = vec![count(IMPORTED as usize)];
        for name in [b'a', b'b', b'c'] {
            imports.extend([1, b'm', 1, name, FUNCTION, 0]);
        }
        let mut exports = vec![count(exported.len())];
        for (name, index) in exported {
            exports.push(count(name.len()));
            exports.extend(name.as_bytes());
            exports.push(FUNCTION);
            put_number(&mut exports, *index);
        }
        let mut code = Vec::new();
        put_number(&mut code, 200);
        for index in IMPORTED..200 + IMPORTED {
            let body: &[u8] = if empty.contains(&index) {
                &NOTHING
            } else {
                &BODY
            };
            code.push(count(body.len()));
            code.extend(body);
        }
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        put_section(&mut module, 1, &[1, 0x60, 0, 0]);
        put_section(&mut module, IMPORT, &imports);
        put_section(&mut module, EXPORT, &exports);
        put_section(&mut module, CODE, &code);
        module
    }

    /// Names with their functions, from the 150th on.
    fn numbered<'n>(names: &[&'n str]) -> Vec<(&'n str, u32)> {
        names.iter().copied().zip(150..).collect()
    }

    #[test]
    fn what_is_not_answered_is_gone_and_the_rest_untouched() {
        let all = numbered(&[&["malloc"], CALLBACKS.as_slice()].concat());
        let (log, done) = (("proxy_on_log", 190), ("proxy_on_done", 202));
        // It is the same function as one that stays.
        let twin = ("proxy_on_queue_ready", 152);
        let with_more = [all.as_slice(), &[log, done, twin]].concat();
        let trimmed = trim(&module(&with_more, &[])).unwrap();
        assert_eq!(trimmed, module(&all, &[log.1, done.1]));
        assert_eq!(trim(&trimmed).unwrap(), trimmed);
        let names = capabilities::read(&trimmed).unwrap();
        assert!(CALLBACKS.iter().all(|name| names.contains(*name)));
        assert_eq!(names.len(), CALLBACKS.len() + IMPORTED as usize);
    }

    #[test]
    fn ours_stand_in_for_those_that_panic() {
        let all = numbered(&[&["malloc"], CALLBACKS.as_slice()].concat());
        let mut before = all.clone();
        before.push((OURS[0].0, 190));
        let mut after = all.clone();
        after.retain(|(name, _)| *name != OURS[0].1);
        after.push((OURS[0].1, 190));
        let replaced = all.iter().find(|(name, _)| *name == OURS[0].1).unwrap();
        let trimmed = trim(&module(&before, &[])).unwrap();
        assert_eq!(trimmed, module(&after, &[replaced.1]));
        assert_eq!(trim(&trimmed).unwrap(), trimmed);
    }

    #[test]
    fn a_callback_that_is_missing_is_an_error() {
        for left_out in 0..CALLBACKS.len() {
            let mut callbacks = CALLBACKS.to_vec();
            callbacks.remove(left_out);
            let module = module(&numbered(&callbacks), &[]);
            assert!(trim(&module).is_err(), "{left_out}");
        }
        assert!(trim(b"\x7fELF\0\0\0\0\0").is_err());
    }
}
