//! Which route a request is for.

use std::collections::BTreeSet;

use portcullis_policy::{MapStore, Policy, Reason};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::gate::{Ask, FULL, Gate, header, policy, reply};

const METHODS: [&str; 4] = ["ANY", "GET", "HEAD", "POST"];

/// A template, as text and as the model reads it
#[derive(Clone, Debug, Eq, PartialEq)]
struct Template {
    method: &'static str,
    segments: Vec<&'static str>,
}

impl Template {
    fn text(&self) -> String {
        format!("{} /{}", self.method, self.segments.join("/"))
    }

    /// The template when case, a trailing slash and the names of parameters don't matter
    fn folded(&self) -> (&str, Vec<String>) {
        let mut segments: Vec<_> = self
            .segments
            .iter()
            .map(|segment| segment.to_lowercase())
            .collect();
        if segments.len() > 1 && segments.last().is_some_and(String::is_empty) {
            segments.pop();
        }
        (self.method, segments)
    }

    fn matches_method(&self, method: &str) -> bool {
        self.method == method || self.method == "ANY" || (method == "HEAD" && self.method == "GET")
    }

    /// How well a path fits, segment by segment from the left, and then how well the method does;
    /// `None` where the path does not
    fn score(segments: &[String], method: &str, path: &str, wanted: &str) -> Option<(Vec<u8>, u8)> {
        let mut path = path.strip_prefix('/')?.split('/');
        let mut score = Vec::new();
        for segment in segments {
            if segment == "**" {
                score.push(0);
                break;
            }
            let part = path.next()?;
            score.push(match segment.as_str() {
                "{x}" if part.is_empty() => return None,
                "{x}" => 2,
                literal if literal == part => 3,
                _ => return None,
            });
        }
        if score.last() != Some(&0) {
            if path.next().is_some() {
                return None;
            }
            score.push(1);
        }
        Some((
            score,
            if method == wanted {
                2
            } else {
                u8::from(method == "GET")
            },
        ))
    }
}

fn best<'t>(
    templates: &'t [(Template, Vec<String>)],
    method: &str,
    path: &str,
) -> Option<&'t Template> {
    templates
        .iter()
        .filter(|(template, _)| template.matches_method(method))
        .filter_map(|(template, segments)| {
            Some((
                Template::score(segments, template.method, path, method)?,
                template,
            ))
        })
        .max_by(|(a, _), (b, _)| a.cmp(b))
        .map(|(_, template)| template)
}

fn templates() -> impl Strategy<Value = Vec<Template>> {
    let inner = proptest::sample::select(vec!["a", "a", "b", "A", "{x}", "{x}"]);
    let last = proptest::sample::select(vec!["a", "b", "B", "{x}", "**", "**", ""]);
    let template = (
        proptest::sample::select(METHODS.to_vec()),
        proptest::collection::vec(inner, 0..3),
        last,
    )
        .prop_map(|(method, mut segments, last)| {
            segments.push(last);
            Template { method, segments }
        });
    proptest::collection::vec(template, 1..7)
}

fn routes(templates: &[Template], names: &[usize]) -> Value {
    templates
        .iter()
        .zip(names)
        .map(|(template, name)| {
            // Parameters need names of their own.
            let mut text = template.text();
            let mut number = 0;
            while text.contains("{x}") {
                number += 1;
                text = text.replacen("{x}", &format!("{{p{number}}}"), 1);
            }
            (format!("r{name}"), json!({ "match": text }))
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    /// The most specific template wins, whatever the order in which routes are written; near misses
    /// and unknown methods are told apart from unknown paths; a tie is an error
    #[test]
    fn the_most_specific_template_wins_in_any_order(
        templates in templates(),
        order in Just((0..7usize).collect::<Vec<_>>()).prop_shuffle(),
        asks in proptest::collection::vec(
            (proptest::sample::select(vec!["GET", "HEAD", "POST", "DELETE"]), "/([abAB]/){0,3}[abAB]?"),
            20,
        ),
    ) {
        let document = policy(routes(&templates, &order));
        let text = serde_json::to_vec(&document).unwrap();
        let ties = templates.iter().enumerate().any(|(index, template)| {
            templates[..index].iter().any(|other| template.folded() == other.folded())
        });
        let parsed = Policy::parse(&text, "main");
        prop_assert_eq!(parsed.is_err(), ties);
        if ties {
            return Ok(());
        }
        let exact: Vec<_> = templates
            .iter()
            .map(|template| {
                let segments = template.segments.iter().map(|segment| segment.to_string()).collect();
                (template.clone(), segments)
            })
            .collect();
        let folded: Vec<_> =
            templates.iter().map(|template| (template.clone(), template.folded().1)).collect();
        let mut gate = Gate::new(&document);
        for (method, path) in asks {
            let found = best(&exact, method, &path);
            let lower = path.to_lowercase();
            let lower = lower.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(&lower);
            let near = best(&folded, method, lower).filter(|near| found != Some(*near));
            let known: BTreeSet<_> = exact
                .iter()
                .filter(|(template, segments)| {
                    Template::score(segments, template.method, &path, "").is_some()
                })
                .flat_map(|(template, _)| match template.method {
                    "GET" => vec!["GET", "HEAD"],
                    method => vec![method],
                })
                .collect();
            let outcome = gate.ask(&Ask::new(method, &path).key("basic"), FULL, &mut MapStore::default());
            let expected = match (near, found) {
                (Some(_), _) => Reason::PathAmbiguous,
                (None, Some(_)) => Reason::Allowed,
                (None, None) if known.is_empty() => Reason::RouteUnknown,
                (None, None) => Reason::MethodNotAllowed,
            };
            prop_assert_eq!(outcome.record.reason, expected, "{} {}", method, path);
            if let (Reason::Allowed, Some(found)) = (expected, found) {
                let index = templates.iter().position(|template| template == found).unwrap();
                let rule = format!("apis.api.routes.r{}", order[index]);
                prop_assert_eq!(&outcome.record.rule.path, &rule, "{} {}", method, path);
            }
            if expected == Reason::MethodNotAllowed {
                let allow = known.into_iter().collect::<Vec<_>>().join(", ");
                prop_assert_eq!(header(reply(&outcome).unwrap(), "allow"), Some(&*allow));
            }
        }
    }
}
