//! The tables of structural threat evidence and of the gate's public suffixes, made from the data of this directory.

mod brands;
mod confusables;
mod suffix_table;
mod suffixes;

pub use brands::brands;
pub use confusables::confusables;
pub use suffix_table::suffix_table;
pub use suffixes::suffixes;

/// The public suffix list, as published (MPL-2.0: see `data/README.md`)
pub const PUBLIC_SUFFIX_LIST: &str = include_str!("../data/public_suffix_list.dat");
/// Shared hosts that the list doesn't name
pub const SHARED_HOSTS: &str = include_str!("../data/shared-hosts.txt");
/// Brands and the domains of their owners
pub const BRANDS: &str = include_str!("../data/brands.txt");
/// The fitted model, as `cargo run --release -p portcullis-fit` writes it
pub const MODEL: &[u8] = include_bytes!("../data/model.bin");

/// The sections of a bundle that `portcullis_threat::structure::Tables` reads
#[derive(Clone, Debug)]
pub struct Sections {
    /// For `structure::Suffixes`
    pub suffixes: Vec<u8>,
    /// For `structure::Brands`
    pub brands: Vec<u8>,
    /// For `structure::Confusables`
    pub confusables: Vec<u8>,
    /// For `structure::Model`
    pub model: Vec<u8>,
}

impl Sections {
    /// The tables over these sections; `None` if one of them isn't what it should be
    #[must_use]
    pub fn tables(&self) -> Option<portcullis_threat::structure::Tables<'_>> {
        portcullis_threat::structure::Tables::new(
            &self.suffixes,
            &self.brands,
            &self.confusables,
            &self.model,
        )
    }
}

/// The sections from the data of this crate
///
/// # Errors
/// What is wrong with the data, and where
pub fn sections() -> Result<Sections, String> {
    Ok(Sections {
        suffixes: suffixes(PUBLIC_SUFFIX_LIST, SHARED_HOSTS)?,
        brands: brands(BRANDS)?,
        confusables: confusables(),
        model: MODEL.to_vec(),
    })
}
