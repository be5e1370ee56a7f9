//! What a route demands of the parameters of a request: a small typed schema.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use crate::enforcement::Enforcement;
use crate::format::Formats;
use crate::name::Name;
use crate::node::Node;
use crate::reason::Reason;
use crate::record::Rule;

/// What is wrong with a request's parameters, or with its body as a whole
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) reason: Reason,
    pub(crate) rule: Rc<Rule>,
    /// The parameter's name, and what is wrong with it
    pub(crate) field: Option<(String, String)>,
}

/// A parameter: a field of the body, or a parameter of the query
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) place: Place,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
    /// Longest string, in characters
    pub(crate) max_length: Option<usize>,
    /// Values that not every tier may send
    pub(crate) gates: Vec<Gate>,
    pub(crate) gate_rule: Rc<Rule>,
    pub(crate) enforcement: Enforcement,
    pub(crate) rule: Rc<Rule>,
}

/// Where a parameter stands
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    Body,
    Query,
}

/// The type of a parameter, and what belongs to it alone
#[derive(Debug)]
pub(crate) enum Kind {
    Array(Items),
    Boolean,
    Integer {
        min: i64,
        max: i64,
        /// What the upstream takes where there is none; only told, never added
        absent: Option<i64>,
    },
    /// What is in it is not looked at
    Object,
    /// A token that means something to the upstream alone
    Opaque,
    String(Text),
}

/// What a string may be; everything where neither is given
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) one_of: Vec<String>,
    pub(crate) formats: Option<Formats>,
}

/// What the items of a list may be: strings, all of one kind
#[derive(Debug)]
pub(crate) struct Items {
    pub(crate) formats: Formats,
    pub(crate) min: usize,
    pub(crate) max: usize,
}

/// A value that is for some tiers
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) value: String,
    pub(crate) tiers: Vec<Name>,
}

/// What is wrong with a parameter that is ambiguous
pub(crate) const ONCE: &str = "must appear once, spelled exactly so";

/// What is wrong with a value
struct Problem {
    /// The item of a list that it is about
    item: Option<usize>,
    text: String,
}

impl Field {
    /// Checks the parameter's value
    ///
    /// # Errors
    ///
    /// [`Reason::FieldMissing`] or [`Reason::FieldInvalid`].
    pub(crate) fn check(&self, value: Option<&Node>) -> Result<(), Fault> {
        let Some(value) = value else {
            if self.required {
                return Err(self.fault(Reason::FieldMissing, None, "is required".into()));
            }
            return Ok(());
        };
        self.judge(value)
            .map_err(|Problem { item, text }| self.fault(Reason::FieldInvalid, item, text))
    }

    /// Checks whether a tier may send the parameter's value
    ///
    /// # Errors
    ///
    /// [`Reason::TierInsufficient`].
    pub(crate) fn check_tier(&self, value: Option<&Node>, tier: &Name) -> Result<(), Fault> {
        let Some(Node::String(value)) = value else {
            return Ok(());
        };
        let gate = self.gates.iter().find(|gate| gate.value == *value);
        let Some(gate) = gate.filter(|gate| !gate.tiers.contains(tier)) else {
            return Ok(());
        };
        let tiers: Vec<_> = gate.tiers.iter().map(Name::as_str).collect();
        let problem = format!("can be `{value}` only with the tier: {}", tiers.join(", "));
        let mut fault = self.fault(Reason::TierInsufficient, None, problem);
        fault.rule = Rc::clone(&self.gate_rule);
        Err(fault)
    }

    /// The fault of a parameter that another reader reads elsewhere or otherwise
    pub(crate) fn ambiguous(&self) -> Fault {
        self.fault(Reason::FieldAmbiguous, None, ONCE.into())
    }

    /// The fault of a value that can't even be read
    pub(crate) fn invalid(&self, problem: &str) -> Fault {
        self.fault(Reason::FieldInvalid, None, problem.into())
    }

    fn judge(&self, value: &Node) -> Result<(), Problem> {
        match (&self.kind, value) {
            (Kind::Array(items), Node::List(list)) => self.judge_items(items, list),
            (Kind::Integer { min, max, .. }, Node::Number(number))
                if number
                    .as_i64()
                    .is_some_and(|value| (*min..=*max).contains(&value)) =>
            {
                Ok(())
            }
            (Kind::Integer { min, max, absent }, Node::Number(_) | Node::String(_)) => {
                let mut text = format!("must be a whole number from {min} to {max}");
                if let Some(absent) = absent {
                    text.push_str(&format!(" ({absent} when absent)"));
                }
                Err(text.into())
            }
            (Kind::String(text), Node::String(value)) => Ok(self.judge_text(text, value)?),
            (Kind::Opaque, Node::String(value)) => Ok(self.judge_token(value)?),
            (Kind::Boolean, Node::Bool(_)) | (Kind::Object, Node::Map(_)) => Ok(()),
            (kind, other) => {
                let text = format!("must be {}, not {}", kind.noun(), other.kind());
                Err(text.into())
            }
        }
    }

    fn judge_items(&self, items: &Items, list: &[Node]) -> Result<(), Problem> {
        if list.len() < items.min || list.len() > items.max {
            let text = format!("must have {} to {} items", items.min, items.max);
            return Err(text.into());
        }
        let mut sum = 0u128;
        for (index, item) in list.iter().enumerate() {
            let addresses = match item {
                Node::String(text) => self
                    .check_length(text)
                    .and_then(|()| items.formats.check(text)),
                other => Err(format!("must be a string, not {}", other.kind())),
            };
            let addresses = addresses.map_err(|text| Problem {
                item: Some(index),
                text,
            })?;
            sum = sum.saturating_add(addresses);
        }
        Ok(items.formats.check_sum(sum)?)
    }

    fn judge_text(&self, text: &Text, value: &str) -> Result<(), String> {
        if !text.one_of.is_empty() {
            if text.one_of.iter().any(|one| one == value) {
                return Ok(());
            }
            return Err(format!("must be one of: {}", text.one_of.join(", ")));
        }
        self.check_empty(value)?;
        self.check_length(value)?;
        if let Some(formats) = &text.formats {
            let addresses = formats.check(value)?;
            formats.check_sum(addresses)?;
        }
        Ok(())
    }

    fn judge_token(&self, value: &str) -> Result<(), String> {
        self.check_empty(value)?;
        self.check_length(value)?;
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=:".contains(&byte);
        if value.bytes().all(good) {
            return Ok(());
        }
        Err("must be of letters, digits and - . _ ~ + / = :".to_owned())
    }

    fn check_empty(&self, value: &str) -> Result<(), String> {
        if self.required && value.trim().is_empty() {
            return Err("must not be empty".to_owned());
        }
        Ok(())
    }

    fn check_length(&self, value: &str) -> Result<(), String> {
        match self.max_length {
            Some(max) if value.chars().count() > max => {
                Err(format!("must have at most {max} characters"))
            }
            _ => Ok(()),
        }
    }

    fn fault(&self, reason: Reason, item: Option<usize>, problem: String) -> Fault {
        let place = match self.place {
            Place::Body => "",
            Place::Query => "query.",
        };
        let name = match item {
            Some(item) => format!("{place}{}[{item}]", self.name),
            None => format!("{place}{}", self.name),
        };
        Fault {
            reason,
            rule: Rc::clone(&self.rule),
            field: Some((name, problem)),
        }
    }
}

impl Kind {
    fn noun(&self) -> &'static str {
        match self {
            Self::Array(_) => "a list",
            Self::Boolean => "true or false",
            Self::Integer { .. } => "a whole number",
            Self::Object => "an object",
            Self::Opaque | Self::String(_) => "a string",
        }
    }
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self { item: None, text }
    }
}
