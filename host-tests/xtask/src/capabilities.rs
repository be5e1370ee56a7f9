//! What a proxy-wasm module may do: the exact allow-list for Envoy's `capability_restriction_config`.
//!
//! Envoy calls a capability by the name of the function: what the module imports (the ABI's and
//! WASI's), and the callbacks that it exports. A callback that is missing in the list is not called,
//! and a request that is not judged is let through: the list must be complete as well as tight.

use std::collections::BTreeSet;

use crate::failure::{Failure, Result};

/// The names, sorted.
///
/// # Errors
///
/// When `module` is no WebAssembly module, or imports what is no function.
pub fn read(module: &[u8]) -> Result<BTreeSet<String>> {
    let capabilities = Reader::new(module).and_then(Reader::capabilities);
    capabilities.ok_or_else(|| {
        Failure::new(
            "the module is not well-formed WebAssembly",
            "build it again with `cargo xtask wasm`",
        )
    })
}

/// The lines of the block `capabilities`.
#[must_use]
pub fn block(capabilities: &BTreeSet<String>) -> String {
    capabilities
        .iter()
        .map(|name| format!("{name}: {{}}\n"))
        .collect()
}

/// The sections that are looked at (WebAssembly core specification, section 5.5).
pub(crate) const IMPORT: u8 = 2;
pub(crate) const EXPORT: u8 = 7;
pub(crate) const FUNCTION: u8 = 0;

/// Reads a module front to back.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// `None` for what is no module.
    pub(crate) fn new(module: &'a [u8]) -> Option<Self> {
        module.strip_prefix(b"\0asm\x01\0\0\0").map(Self::inside)
    }

    /// Reads what stands inside a section.
    pub(crate) const fn inside(content: &'a [u8]) -> Self {
        Self { rest: content }
    }

    pub(crate) const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// A section: what it is, and its content.
    pub(crate) fn section(&mut self) -> Option<(u8, &'a [u8])> {
        Some((self.byte()?, self.bytes()?))
    }

    fn capabilities(mut self) -> Option<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        while !self.is_at_end() {
            let (id, content) = self.section()?;
            let mut section = Self::inside(content);
            match id {
                IMPORT => {
                    for _ in 0..section.number()? {
                        let _module = section.bytes()?;
                        names.insert(section.name()?);
                        // A memory or table from outside is not proxy-wasm.
                        (section.byte()? == FUNCTION).then_some(())?;
                        section.number()?;
                    }
                }
                EXPORT => {
                    for _ in 0..section.number()? {
                        let name = section.name()?;
                        let kind = section.byte()?;
                        section.number()?;
                        if kind == FUNCTION && name.starts_with("proxy_on_") {
                            names.insert(name);
                        }
                    }
                }
                _ => {}
            }
        }
        Some(names)
    }

    /// What was not read yet.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// An unsigned LEB128 number of at most 32 bits.
    pub(crate) fn number(&mut self) -> Option<u32> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            let bits = u32::from(byte & 0x7f);
            let shifted = bits.checked_shl(shift)?;
            (shifted >> shift == bits).then_some(())?;
            value |= shifted;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A length and so many bytes.
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    pub(crate) fn name(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(id: u8, entries: &[Vec<u8>]) -> Vec<u8> {
        let mut content = vec![u8::try_from(entries.len()).unwrap()];
        content.extend(entries.concat());
        // The size in two bytes of LEB128, as linkers pad it.
        let low = u8::try_from(content.len() & 0x7f).unwrap() | 0x80;
        let mut bytes = vec![id, low, u8::try_from(content.len() >> 7).unwrap()];
        bytes.extend(content);
        bytes
    }

    fn text(name: &str) -> Vec<u8> {
        let mut bytes = vec![u8::try_from(name.len()).unwrap()];
        bytes.extend(name.bytes());
        bytes
    }

    fn module(import_kind: u8) -> Vec<u8> {
        let import = |module, name, kind| [text(module), text(name), vec![kind, 0]].concat();
        let export = |name, kind| [text(name), vec![kind, 0x80, 0x01]].concat();
        [
            b"\0asm\x01\0\0\0".to_vec(),
            section(1, &[vec![0x60, 0, 0]]),
            section(
                2,
                &[
                    import("wasi_snapshot_preview1", "fd_write", 0),
                    import("env", "proxy_log", import_kind),
                ],
            ),
            section(
                7,
                &[
                    export("memory", 2),
                    export("_initialize", 0),
                    export("proxy_abi_version_0_2_1", 0),
                    export("proxy_on_log", 0),
                    export("proxy_on_nothing", 3),
                ],
            ),
        ]
        .concat()
    }

    #[test]
    fn lists_imports_and_callbacks() {
        let names = read(&module(0)).unwrap();
        assert_eq!(
            block(&names),
            "fd_write: {}\nproxy_log: {}\nproxy_on_log: {}\n"
        );
    }

    #[test]
    fn refuses_what_is_no_such_module() {
        let whole = module(0);
        for end in 0..whole.len() {
            // A cut between two sections leaves a shorter module; anywhere else it is malformed.
            if let Ok(names) = read(&whole[..end]) {
                assert!(names.len() < 3, "{end}");
            }
        }
        assert!(read(b"\x7fELF").is_err());
        assert!(read(&module(2)).is_err(), "an imported memory");
        assert!(
            read(b"\0asm\x01\0\0\0\x02\xff\xff\xff\xff\xff\x01").is_err(),
            "a number of more than 32 bits"
        );
    }
}
