//! Evidence without a feed: what the spelling of a URL or a domain gives away.
//!
//! The tables are sections of a bundle, read in place. Structure alone never says `malicious`: its total ends
//! at [`model::GREATEST`].

pub mod brand;
mod bytes;
pub mod confusable;
mod features;
pub mod model;
pub mod suffix;
mod text;
mod view;

pub use brand::Brands;
pub use confusable::Confusables;
pub use model::Model;
pub use suffix::{Suffix, Suffixes};
pub use view::{Site, View};

use crate::evidence::{Code, EvidenceList, Points};
use crate::web::Web;
pub use features::Group;
use features::{Feature, Input, Visit, each};
use model::Sums;

/// What structure is judged by, borrowed from a bundle's sections
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a> {
    /// Under which names strangers register names
    pub suffixes: Suffixes<'a>,
    /// Whom impostors imitate
    pub brands: Brands<'a>,
    /// Which characters look like ASCII
    pub confusables: Confusables<'a>,
    /// What the features weigh
    pub model: Model<'a>,
}

impl<'a> Tables<'a> {
    /// Adopts the four sections; `None` if one of them isn't what it should be
    #[must_use]
    pub fn new(
        suffixes: &'a [u8],
        brands: &'a [u8],
        confusables: &'a [u8],
        model: &'a [u8],
    ) -> Option<Self> {
        Some(Self {
            suffixes: Suffixes::new(suffixes)?,
            brands: Brands::new(brands)?,
            confusables: Confusables::new(confusables)?,
            model: Model::new(model)?,
        })
    }
}

/// What structure says of a URL
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Findings<'a> {
    /// The calibrated total, 0 to 79: about one benign URL in 500 reaches 40
    pub total: Points,
    /// The brand that the host names or imitates without being its owner's
    pub brand: Option<&'a str>,
}

/// Says what the structure of a URL or of a domain gives away. The evidence that it adds carries shares of the
/// total, so that they tell where it comes from.
pub fn examine<'t>(
    web: &Web<'_>,
    tables: &Tables<'t>,
    evidence: &mut EvidenceList,
) -> Findings<'t> {
    View::of(web).map_or_else(Findings::default, |view| {
        examine_view(&view, tables, evidence)
    })
}

/// Like [`examine`], of a URL that is already cut up
pub fn examine_view<'t>(
    view: &View<'_>,
    tables: &Tables<'t>,
    evidence: &mut EvidenceList,
) -> Findings<'t> {
    let input = Input::of(view, tables);
    let sums = sums(&input, &tables.model);
    let total = tables.model.score(total(&input, &sums), view.has_path());
    let floor = sums.floor.filter(|(_, least)| *least > total);
    let positive = Group::ALL.iter().fold(0i32, |sum, group| {
        sum.saturating_add(sums.of(*group).max(0))
    });
    for group in Group::ALL {
        let part = sums.of(group).max(0).saturating_mul(i32::from(total));
        let part = part.checked_div(positive).unwrap_or(0);
        let mut share = u8::try_from(part).unwrap_or(0);
        if let Some((own, least)) = floor
            && own == group
        {
            share = share.saturating_add(least.saturating_sub(total));
        }
        if share > 0 {
            evidence.push(code(group), Points::new(share));
        }
    }
    let total = floor.map_or(total, |(_, least)| least);
    // Names are for people: looked for once more only where there is something to tell.
    let named = [Group::BrandHost, Group::LookAlike, Group::Homograph];
    let named = named.iter().any(|group| sums.of(*group) > 0)
        || floor.is_some_and(|(group, _)| group == Group::Homograph);
    let brand = if named {
        input.brand().map(|name| name.text)
    } else {
        None
    };
    Findings {
        total: Points::new(total),
        brand,
    }
}

fn sums(input: &Input<'_, '_>, model: &Model<'_>) -> Sums {
    let mut summing = Summing {
        model,
        sums: Sums::default(),
        host: 0,
        path: 0,
    };
    each(input, &mut summing);
    let mut sums = summing.sums;
    let (host, path) = model.gram_scales();
    sums.add(Group::HostPattern, summing.host.saturating_mul(host));
    sums.add(Group::PathPattern, summing.path.saturating_mul(path));
    sums
}

/// Weighs features as they come
struct Summing<'m, 'a> {
    model: &'m Model<'a>,
    sums: Sums,
    /// Of the runs of characters, not scaled yet
    host: i32,
    path: i32,
}

impl Visit for Summing<'_, '_> {
    fn feature(&mut self, group: Group, feature: Feature) {
        self.sums.add(group, self.model.weigh(feature));
        if feature.floor() > 0 {
            self.sums.least(group, feature.floor());
        }
    }

    fn host_grams(&mut self, field: u64, text: &[u8]) {
        let sum = self.model.host_grams().sum(field, text);
        self.host = self.host.saturating_add(sum);
    }

    fn path_grams(&mut self, field: u64, text: &[u8]) {
        let sum = self.model.path_grams().sum(field, text);
        self.path = self.path.saturating_add(sum);
    }
}

/// What features sum up to; where a brand's owner is at home, there is nothing to judge
fn total(input: &Input<'_, '_>, sums: &Sums) -> i32 {
    if input.is_owned() {
        i32::MIN / 2
    } else {
        sums.total()
    }
}

fn code(group: Group) -> Code {
    match group {
        Group::HostPattern => Code::HostPattern,
        Group::PathPattern => Code::PathPattern,
        Group::HostShape => Code::HostShape,
        Group::PathShape => Code::PathShape,
        Group::Generated => Code::NameGenerated,
        Group::Suffix => Code::SuffixAbused,
        Group::Hosting => Code::SharedHosting,
        Group::BrandHost => Code::BrandInHost,
        Group::BrandPath => Code::BrandInPath,
        Group::LookAlike => Code::BrandLookAlike,
        Group::Homograph => Code::BrandHomograph,
        Group::MixedScript => Code::ScriptUnusual,
        Group::Port => Code::PortUnusual,
        Group::Userinfo => Code::UserinfoPresent,
        Group::Address => Code::AddressHost,
    }
}
