//! Takes the callbacks out of a module that its filter has no use for.
//!
//! The SDK exports every callback there is. Each that a host finds is called, and a call into the VM
//! that does nothing costs 0.2 to 0.35 us a request in Envoy.

use crate::capabilities::{EXPORT, Reader};
use crate::failure::{Failure, Result};

/// The callbacks that the filter answers; nothing else that begins with `proxy_on_` stays.
///
/// A request is let through when its callback is missing, so what is listed here and not in the
/// module is an error.
pub const CALLBACKS: [&str; 10] = [
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_memory_allocate",
    "proxy_on_request_body",
    "proxy_on_request_headers",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_tick",
    "proxy_on_vm_start",
];

/// The module without its other callbacks.
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
    while !reader.is_at_end() {
        let (id, content) = reader.section().ok_or_else(malformed)?;
        if id == EXPORT {
            let exports = Reader::inside(content)
                .exports(&mut kept)
                .ok_or_else(malformed)?;
            put_section(&mut trimmed, id, &exports);
        } else {
            put_section(&mut trimmed, id, content);
        }
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

/// `\0asm` and the version.
const HEADER: usize = 8;

impl Reader<'_> {
    /// The content of an export section, as far as it stays; notes the names.
    fn exports(mut self, kept: &mut Vec<String>) -> Option<Vec<u8>> {
        let mut entries = Vec::new();
        let mut count = 0_u32;
        for _ in 0..self.number()? {
            let name = self.name()?;
            let kind = self.byte()?;
            let index = self.number()?;
            if name.starts_with("proxy_on_") && !CALLBACKS.contains(&name.as_str()) {
                continue;
            }
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

    fn module(callbacks: &[&str]) -> Vec<u8> {
        let mut exports = Vec::new();
        put_number(&mut exports, u32::try_from(callbacks.len()).unwrap());
        for (index, name) in callbacks.iter().enumerate() {
            put_number(&mut exports, u32::try_from(name.len()).unwrap());
            exports.extend(name.as_bytes());
            exports.push(0);
            put_number(
                &mut exports,
                u32::try_from(index).unwrap().saturating_mul(100),
            );
        }
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        put_section(&mut module, 1, &[1, 0x60, 0, 0]);
        put_section(&mut module, EXPORT, &exports);
        put_section(&mut module, 10, &[0; 200]);
        module
    }

    #[test]
    fn what_is_not_answered_is_gone_and_the_rest_untouched() {
        let all = [&["malloc"], CALLBACKS.as_slice()].concat();
        let with_more = [all.as_slice(), &["proxy_on_log", "proxy_on_done"]].concat();
        let trimmed = trim(&module(&with_more)).unwrap();
        assert_eq!(trimmed, module(&all));
        assert_eq!(trim(&trimmed).unwrap(), trimmed);
        let names: Vec<_> = capabilities::read(&trimmed).unwrap().into_iter().collect();
        assert_eq!(names, CALLBACKS);
    }

    #[test]
    fn a_callback_that_is_missing_is_an_error() {
        for left_out in 0..CALLBACKS.len() {
            let mut callbacks = CALLBACKS.to_vec();
            callbacks.remove(left_out);
            assert!(trim(&module(&callbacks)).is_err(), "{left_out}");
        }
        assert!(trim(b"\x7fELF\0\0\0\0\0").is_err());
    }
}
