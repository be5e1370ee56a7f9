//! Advice on where a threat bundle comes from.

use alloc::borrow::ToOwned;

use super::Said;
use crate::reader::At;

/// A bundle that is fetched and may be anybody's
pub(super) fn advise(root: &At<'_>, said: &mut Said) {
    let bundle = root.at("threat").and_then(|threat| threat.at("bundle"));
    let Some(bundle) = bundle.filter(|bundle| bundle.at("cluster").is_some()) else {
        return;
    };
    if bundle.at("sha256").is_none() && bundle.at("signed_by").is_none() {
        let message = "nothing says whose bundle it is, so whoever answers for the cluster decides what is malicious: write `signed_by`";
        said.warn(&bundle.path, message.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::super::tests::{check, policy};

    #[test]
    fn a_bundle_that_is_fetched_is_somebodys() {
        let with = |more: &str| {
            let threat =
                format!(r#", "threat": {{"licences": ["MIT"], "bundle": {{"path": "/b"{more}}}}}"#);
            let verdict = r#""r": {"match": "POST /", "fields": {"t": {"type": "string", "required": true}},
                "verdict": {"of": "body.t"}}"#;
            policy("", verdict, &threat)
        };
        let anybodys = "w threat.bundle: nothing says whose bundle it is, so whoever answers for the cluster decides what is malicious: write `signed_by`";
        check(&with(r#", "cluster": "feeds""#), &[anybodys]);
        let digest = "00".repeat(32);
        check(
            &with(&format!(r#", "cluster": "feeds", "sha256": "{digest}""#)),
            &[],
        );
        let key = "ed25519:Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
        check(
            &with(&format!(r#", "cluster": "feeds", "signed_by": "{key}""#)),
            &[],
        );
    }
}
