//! What is worth a look about a policy's own indicators, and who is judged by them.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::IpNet;
use portcullis_threat::Target;

use super::{At, Said};
use crate::node::Node;

/// Indicators that repeat others, and such that nobody asks
pub(super) fn advise(root: &At<'_>, apis: &[(&str, At<'_>)], said: &mut Said) {
    let threat = root.at("threat");
    let lists = threat.as_ref().and_then(|at| at.at("indicators"));
    let bundle = threat.as_ref().and_then(|at| at.at("bundle"));
    let mut count = 0usize;
    for (list, at) in lists
        .iter()
        .flat_map(At::each)
        .filter(|(_, at)| matches!(at.node, Node::List(_)))
    {
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        for item in at.items() {
            count = count.saturating_add(1);
            let value = item.at("value").unwrap_or_else(|| item.clone());
            let Some(text) = value.text() else { continue };
            let same = match list {
                "networks" => text
                    .parse::<IpNet>()
                    .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                    .map_or_else(|_| text.to_owned(), |network| format!("{network}")),
                _ => Target::classify(text).canonical().to_owned(),
            };
            match seen.get(&same) {
                Some(first) => {
                    let message = format!("the same as {first}; the last one counts");
                    said.warn(&item.path, message);
                }
                None => {
                    seen.insert(same, item.path);
                }
            }
        }
    }
    let routes = apis.iter().filter_map(|(_, api)| api.at("routes"));
    let mut verdicts: Vec<_> = routes
        .flat_map(|routes| routes.each())
        .flat_map(|(_, route)| [route.at("verdict"), route.at("screen")])
        .flatten()
        .collect();
    let clients = root.at("clients");
    verdicts.extend(clients.and_then(|clients| clients.at("screen")));
    let verdicts_are_none = verdicts.is_empty();
    match (&lists, verdicts_are_none) {
        (Some(lists), true) if count > 0 => {
            said.warn(
                &lists.path,
                "no route has a verdict or a screen made of them".into(),
            );
        }
        (_, false) if count == 0 && bundle.is_none() => {
            for verdict in verdicts {
                let message = "there are no indicators: nothing is ever malicious";
                said.warn(&verdict.path, message.into());
            }
        }
        _ => {}
    }
    if let (Some(bundle), true) = (bundle, verdicts_are_none) {
        said.warn(
            &bundle.path,
            "no route has a verdict or a screen made of it".into(),
        );
    }
}
