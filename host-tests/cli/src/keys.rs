//! Making keys, their digests, and bundles of them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

use base64ct::{Base64, Encoding};
use portcullis_policy::{
    Adoption, BundleContents, BundleWriter, DigestScheme, Policy, format_instant, key_digest,
    new_key, read_instant,
};
use serde_json::{Map, Value, json};

use crate::arguments::Bundle;
use crate::document::{self, Syntax};

/// Longest key that is hashed, in bytes: no longer token is looked at by the filter.
const MAX_KEY: u64 = 256;

/// What goes to standard output, or what to say.
type Done = Result<Vec<u8>, String>;

/// Makes a key.
pub(crate) fn new(label: &str, pepper: Option<&str>, json: bool) -> Done {
    let mut failed = None;
    let mut random = || {
        let mut byte = [0];
        failed = failed.or(getrandom::fill(&mut byte).err());
        byte[0]
    };
    // Where there is no randomness every byte is zero: a key still comes out, and is thrown away.
    let key = new_key(label, &mut random)
        .map_err(|_| "a label is 1 to 32 lower case letters, digits and hyphens".to_owned())?;
    if let Some(error) = failed {
        return Err(format!("there are no random numbers: {error}"));
    }
    told(Some(&key), key.as_bytes(), pepper, json)
}

/// Tells the digest of the key on standard input.
pub(crate) fn hash(pepper: Option<&str>, json: bool) -> Done {
    let mut key = Vec::new();
    let input = io::stdin().lock().take(MAX_KEY + 3);
    let mut input = io::BufReader::new(input);
    input
        .read_to_end(&mut key)
        .map_err(|error| format!("standard input: {error}"))?;
    let key = key.strip_suffix(b"\n").unwrap_or(&key);
    let key = key.strip_suffix(b"\r").unwrap_or(key);
    if key.is_empty() || !key.iter().all(u8::is_ascii_graphic) {
        return Err("standard input: must be one key, without blanks".to_owned());
    }
    if key.len() as u64 > MAX_KEY {
        return Err(format!("standard input: a key has at most {MAX_KEY} bytes"));
    }
    told(None, key, pepper, json)
}

fn told(shown: Option<&str>, key: &[u8], pepper: Option<&str>, json: bool) -> Done {
    let secret = pepper.map(|name| {
        let secret = std::env::var(name);
        secret.map_err(|_| format!("there is no environment variable `{name}`"))
    });
    let secret = secret.transpose()?;
    let digest = key_digest(key, secret.as_deref().map(str::as_bytes))
        .ok_or("the pepper has less than 16 bytes")?;
    let field = if pepper.is_some() {
        "hmac_sha256"
    } else {
        "sha256"
    };
    let mut object = Map::new();
    if let Some(key) = shown {
        object.insert("key".into(), key.into());
    }
    object.insert(field.into(), digest.into());
    let text = if json {
        format!("{:#}\n", Value::from(object))
    } else {
        let line = |(name, value): (&String, &Value)| {
            format!("{name}: {}\n", value.as_str().unwrap_or_default())
        };
        object.iter().map(line).collect()
    };
    Ok(text.into_bytes())
}

/// Makes a bundle.
pub(crate) fn bundle(arguments: &Bundle) -> Done {
    let document = read(&arguments.keys)?;
    let source = Source::of(&document)?;
    let generated_at = match &arguments.generated_at {
        Some(text) => instant(text)?,
        None => match source.generated_at {
            Some(text) => instant(text)?,
            None => now()?,
        },
    };
    let policy = match &arguments.policy {
        Some(path) => read(path)?,
        None => source.policy(),
    };
    source.check(&policy)?;
    let scheme = source.scheme();
    let field = source.digest_field();
    let mut writer = BundleWriter::new(source.api, source.revision, generated_at, scheme)?;
    for (index, key) in source.keys.iter().enumerate() {
        let mut record = key.as_object().cloned().unwrap_or_default();
        let digest = record.remove(field);
        let digest = digest.as_ref().and_then(Value::as_str).unwrap_or_default();
        let record = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
        writer
            .add(digest, record)
            .map_err(|error| format!("keys[{index}]: {error}"))?;
    }
    let file = writer.finish()?;
    adopt(&policy, source.api, &file)?;
    let file = if arguments.base64 {
        format!("{}\n", Base64::encode_string(&file)).into_bytes()
    } else {
        file
    };
    match &arguments.output {
        None => Ok(file),
        Some(path) => fs::write(path, file)
            .map(|()| Vec::new())
            .map_err(|error| format!("{}: {error}", path.display())),
    }
}

/// Shows a bundle.
pub(crate) fn inspect(path: &Path, json: bool) -> Done {
    let file = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let contents = BundleContents::read(&file)
        .map_err(|error| format!("{}: {error} ({})", path.display(), error.word()))?;
    let keys: Vec<Value> = contents
        .records
        .iter()
        .map(|record| serde_json::from_slice(record).unwrap_or(Value::Null))
        .collect();
    let generated_at = format_instant(contents.generated_at).unwrap_or_default();
    let scheme = match contents.scheme {
        DigestScheme::Plain => "sha256",
        DigestScheme::Peppered => "hmac_sha256",
    };
    let text = if json {
        let object = json!({
            "api": contents.api,
            "revision": contents.revision,
            "generated_at": generated_at,
            "digests": scheme,
            "bytes": file.len(),
            "keys": keys,
        });
        format!("{object:#}\n")
    } else {
        let mut text = format!(
            "api {}, revision {}, generated at {generated_at}, {} keys by {scheme}, {} bytes\n",
            contents.api,
            contents.revision,
            keys.len(),
            file.len()
        );
        let mut ids: Vec<String> = keys
            .iter()
            .map(|key| {
                let field = |name| key.get(name).and_then(Value::as_str).unwrap_or("?");
                let line = ["id", "principal", "tier"].map(field).join("  ");
                format!(
                    "{}\n",
                    line.escape_debug().to_string().replace("\\\"", "\"")
                )
            })
            .collect();
        ids.sort();
        text.extend(ids);
        text
    };
    Ok(text.into_bytes())
}

/// A document of keys.
struct Source<'d> {
    api: &'d str,
    revision: &'d str,
    generated_at: Option<&'d str>,
    keys: &'d [Value],
}

impl<'d> Source<'d> {
    fn of(document: &'d Value) -> Result<Self, String> {
        let Some(object) = document.as_object() else {
            return Err("the document of keys must be an object".to_owned());
        };
        let known = ["api", "generated_at", "keys", "revision"];
        if let Some(name) = object.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(format!(
                "{}: unknown field; known here: {}",
                name.escape_default(),
                known.join(", ")
            ));
        }
        let text = |name: &str| match object.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(format!("{name}: must be a string")),
        };
        let keys = object.get("keys").and_then(Value::as_array);
        Ok(Self {
            api: text("api")?.ok_or("api: is required")?,
            revision: text("revision")?.ok_or("revision: is required")?,
            generated_at: text("generated_at")?,
            keys: keys.ok_or("keys: must be a list of keys, as in a policy")?,
        })
    }

    /// How digests were made: all alike, or the check of the keys says which are not.
    fn scheme(&self) -> DigestScheme {
        let peppered = self.keys.iter().any(|key| key.get("hmac_sha256").is_some());
        if peppered {
            DigestScheme::Peppered
        } else {
            DigestScheme::Plain
        }
    }

    fn digest_field(&self) -> &'static str {
        match self.scheme() {
            DigestScheme::Plain => "sha256",
            DigestScheme::Peppered => "hmac_sha256",
        }
    }

    /// A policy that has all tiers and scopes of the keys.
    fn policy(&self) -> Value {
        let texts = |name: &str| -> BTreeSet<String> {
            let values = self.keys.iter().filter_map(|key| key.get(name));
            values
                .flat_map(|value| match value {
                    Value::Array(items) => items.clone(),
                    other => vec![other.clone()],
                })
                .filter_map(|value| value.as_str().map(ToOwned::to_owned))
                .collect()
        };
        let tiers: Map<String, Value> = texts("tier")
            .into_iter()
            .map(|tier| (tier, json!({ "rate": "unlimited" })))
            .collect();
        json!({ "version": 1, "apis": { self.api: {
            "hosts": ["*"],
            "tiers": tiers,
            "keys": self.sources(&[]),
            "routes": { "any": { "match": "GET /", "scope": texts("scopes") } },
        } } })
    }

    fn sources(&self, inline: &[Value]) -> Value {
        match self.scheme() {
            DigestScheme::Plain => json!({ "inline": inline }),
            DigestScheme::Peppered => json!({ "inline": inline, "pepper": { "env": "PEPPER" } }),
        }
    }

    /// Checks the keys as if they stood in the policy.
    fn check(&self, policy: &Value) -> Result<(), String> {
        let mut policy = policy.clone();
        let api = policy
            .get_mut("apis")
            .and_then(|apis| apis.get_mut(self.api));
        let api = api.and_then(Value::as_object_mut);
        let api = api.ok_or_else(|| format!("the policy has no API `{}`", self.api))?;
        api.insert("keys".into(), self.sources(self.keys));
        parse(&policy).map(|_| ()).map_err(|errors| {
            let before = format!("apis.{}.keys.inline[", self.api);
            let lines: Vec<_> = errors
                .into_iter()
                .map(|error| error.replacen(&before, "keys[", 1))
                .collect();
            lines.join("\nportcullis: ")
        })
    }
}

/// Takes the bundle up as the filter does.
fn adopt(policy: &Value, api: &str, file: &[u8]) -> Result<(), String> {
    let policy = parse(policy).map_err(|errors| errors.join("\nportcullis: "))?;
    let adoption = Adoption::new(&policy, api, usize::MAX);
    let mut adoption = adoption.ok_or_else(|| format!("the policy has no API `{api}`"))?;
    adoption
        .feed(file)
        .and_then(|()| adoption.finish())
        .map(|_| ())
        .map_err(|error| format!("the bundle {error}"))
}

fn parse(policy: &Value) -> Result<Policy, Vec<String>> {
    let text = serde_json::to_vec(policy).map_err(|error| [error.to_string()])?;
    let variable = |_: &str| Some("a pepper that stands for any".to_owned());
    Policy::parse_with(&text, "keys", &variable)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn read(path: &Path) -> Result<Value, String> {
    let name = path.display();
    let text = document::read(path).map_err(|error| format!("{name}: {error}"))?;
    let json = document::to_json(&text, Syntax::of(path, &text))
        .map_err(|(message, _)| format!("{name}: {message}"))?;
    serde_json::from_slice(&json).map_err(|error| format!("{name}: {error}"))
}

fn instant(text: &str) -> Result<u64, String> {
    read_instant(text).ok_or_else(|| {
        "generated_at: must be an instant in UTC such as 2026-11-22T06:00:00Z".to_owned()
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "a bundle says when it was made, unless its maker says it himself"
)]
fn now() -> Result<u64, String> {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map(|time| time.as_secs())
        .map_err(|error| error.to_string())
}
