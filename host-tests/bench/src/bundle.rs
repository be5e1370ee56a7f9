//! A threat bundle of as many indicators as are wanted, of the kinds that feeds list.

use ed25519_compact::{KeyPair, Seed};
use portcullis_threat::bundle::{
    self as threats, Fact, FeedEntry, List, SIGNED, Scope, Set, Table, Writer,
};
use portcullis_threat::{Bundle, Category, Terms};
use xtask::failure::{Failure, Result};

/// What every feed of such a bundle says of its licence.
pub(crate) const LICENCE: &str = "CC0-1.0";

/// The bundle, with the tables of structural evidence, an allow list of a hundredth and its signature.
///
/// Another `turn` gives another bundle of the same length: other indicators, and made a second later.
///
/// # Errors
///
/// When it can't be written.
pub(crate) fn write(indicators: u32, created: u64, turn: u32) -> Result<Vec<u8>> {
    let created = created.saturating_add(turn.into());
    let mut writer = Writer::new(*b"known to anybody", created);
    let mut feed = |name: &str, allows: bool| {
        let entry = FeedEntry {
            name: name.to_owned(),
            licence: LICENCE.to_owned(),
            fetched_at: created,
            valid_until: created.saturating_add(30 * 86_400),
            sha256: [0; 32],
            allows,
        };
        writer.feed(entry).map_err(|error| failed(&error))
    };
    let mut fact = Fact {
        feed: feed("denied", false)?,
        scope: Scope::SUBDOMAINS,
        category: Category::Malware,
        confidence: 80,
        block: false,
        first_seen: 0,
        last_seen: 0,
    };
    let allowed = Fact {
        feed: feed("allowed", true)?,
        category: Category::Other,
        ..fact
    };
    for number in 0..indicators {
        let name = format!("{turn}-listed-{number}.example");
        fact.confidence = u8::try_from(number % 20).unwrap_or(0).saturating_add(80);
        // Lists of rules for browsers don't care for case, and make capitals cost a second look.
        fact.scope = match number % 1000 {
            0 => Scope::SUBDOMAINS.and(Scope::CASELESS),
            _ => Scope::SUBDOMAINS,
        };
        let mut deny = |set: Set, key: &str| writer.add(List::Deny, set, key.as_bytes(), &fact);
        match number % 20 {
            0..=11 => deny(Set::Url, &format!("{name}/path/index.php?id={number}")),
            12..=17 => deny(Set::Domain, &name),
            18 => deny(Set::Hash, &name),
            _ => writer.address(List::Deny, number.to_be_bytes().into(), &fact),
        }
        match number % 200 {
            0 => writer.add(
                List::Allow,
                Set::Domain,
                format!("{name}.test").as_bytes(),
                &allowed,
            ),
            1 => writer.add(
                List::Allow,
                Set::Url,
                format!("{name}.test/").as_bytes(),
                &allowed,
            ),
            _ => {}
        }
    }
    let sections = portcullis_fit::sections().map_err(|error| failed(&error))?;
    writer.table(Table::Suffixes, &sections.suffixes);
    writer.table(Table::Brands, &sections.brands);
    writer.table(Table::Confusables, &sections.confusables);
    writer.table(Table::Model, &sections.model);
    let (mut bytes, _) = writer.finish().map_err(|error| failed(&error))?;
    let opened = Bundle::open(bytes.clone(), &Terms::default()).map_err(|error| failed(&error))?;
    let pair = pair();
    let signature = pair.sk.sign([SIGNED, opened.digest()].concat(), None);
    threats::sign(&mut bytes, &pair.pk, &signature);
    Ok(bytes)
}

/// Who signs it, as a policy names keys.
pub(crate) fn signer() -> String {
    let digits: String = pair().pk.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("ed25519:{digits}")
}

/// Anybody's: nothing depends on it.
fn pair() -> KeyPair {
    KeyPair::from_seed(Seed::new([7; 32]))
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        format!("the threat bundle: {error}"),
        "run the tests of portcullis-threat",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_make_bundles_of_one_length() {
        let [first, second] = [0, 1].map(|turn| write(2000, 1_800_000_000, turn).unwrap());
        assert_eq!(first.len(), second.len());
        let open = |bytes| Bundle::open(bytes, &Terms::default()).unwrap();
        let (first, second) = (open(first), open(second));
        assert_eq!(second.created(), first.created() + 1);
        let find =
            |bundle: &Bundle, name: &str| bundle.find(Set::Domain, name.as_bytes()).is_some();
        assert!(find(&first, "0-listed-12.example") && !find(&first, "1-listed-12.example"));
        assert!(find(&second, "1-listed-12.example") && second.has_caseless());
        assert!(
            second
                .allowed(Set::Url, b"1-listed-201.example.test/")
                .is_some()
        );
    }
}
