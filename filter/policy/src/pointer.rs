//! A place in a JSON document (RFC 6901).

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::node::Node;

/// A parsed JSON pointer: names from the root on
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Pointer(Vec<Box<str>>);

impl Pointer {
    /// Parses `/data/0/verdict`, with `~1` for `/` and `~0` for `~` in a name; `None`: it is none
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let Some(names) = text.strip_prefix('/') else {
            return text.is_empty().then_some(Self(Vec::new()));
        };
        let name = |name: &str| {
            let escaped = name
                .split('~')
                .skip(1)
                .all(|rest| rest.starts_with(['0', '1']));
            escaped.then(|| name.replace("~1", "/").replace("~0", "~").into())
        };
        names.split('/').map(name).collect::<Option<_>>().map(Self)
    }

    /// To a field at the top of a document
    pub(crate) fn of_field(name: &str) -> Self {
        Self([name.into()].into())
    }

    /// What stands there in a document
    pub(crate) fn of<'n>(&self, document: &'n Node) -> Option<&'n Node> {
        let step = |node: &'n Node, name: &str| match node {
            Node::List(items) => items.get(index(name)?),
            node => node.get(name),
        };
        let mut names = self.0.iter();
        names.try_fold(document, |node, name| step(node, name))
    }
}

/// RFC 6901, section 4: digits without leading zeros
fn index(name: &str) -> Option<usize> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_digit());
    let is_plain = is_plain && (name == "0" || !name.starts_with('0'));
    name.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        let document = Node::parse_json(
            br#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#,
        );
        let document = document.unwrap();
        let check = |pointer: &str, json: &str| {
            let found = Pointer::parse(pointer).unwrap();
            let expected = Node::parse_json(json.as_bytes()).unwrap();
            assert_eq!(found.of(&document), Some(&expected), "{pointer}");
        };
        assert_eq!(Pointer::parse("").unwrap().of(&document), Some(&document));
        check("/foo", r#"["bar","baz"]"#);
        check("/foo/0", r#""bar""#);
        check("/", "0");
        check("/a~1b", "1");
        check("/c%d", "2");
        check("/e^f", "3");
        check("/g|h", "4");
        check("/i\\j", "5");
        check("/k\"l", "6");
        check("/ ", "7");
        check("/m~0n", "8");
        for nowhere in [
            "/foo/2", "/foo/00", "/foo/01", "/foo/-", "/foo/+1", "/foo/", "/none", "/foo/0/x",
        ] {
            assert_eq!(
                Pointer::parse(nowhere).unwrap().of(&document),
                None,
                "{nowhere}"
            );
        }
        for none in ["foo", "/a~", "/a~2", "~0"] {
            assert_eq!(Pointer::parse(none), None, "{none}");
        }
    }
}
