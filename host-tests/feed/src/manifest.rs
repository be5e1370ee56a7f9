//! A file that names feeds and what is to be known of them.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::{Error, Source};

/// Reads a manifest: `version: 1`, and under `feeds` a list of sources
///
/// Paths are meant from the manifest's own folder.
///
/// # Errors
///
/// All at once, a line each: what is unknown, missing or makes no sense.
pub fn read(text: &str, folder: &Path) -> Result<Vec<Source>, Vec<Error>> {
    let manifest: Manifest = serde_saphyr::from_str(text)
        .map_err(|error| vec![Error::new(format!("no manifest of feeds: {error}"))])?;
    let mut errors = Vec::new();
    if manifest.version != 1 {
        errors.push(Error::new("version: the only one is 1"));
    }
    let mut sources = Vec::new();
    for (number, settings) in manifest.feeds.iter().enumerate() {
        let mut source = Source::default();
        for (key, value) in settings {
            let value = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            if key == "path" {
                source.path = folder.join(value);
            } else if let Err(error) = source.set(key, &value) {
                errors.push(Error::new(format!("feeds[{number}].{error}")));
            }
        }
        if source.path.as_os_str().is_empty() {
            errors.push(Error::new(format!(
                "feeds[{number}].path: is missing; name a file"
            )));
        }
        sources.push(source);
    }
    if sources.is_empty() {
        errors.push(Error::new("feeds: name at least one"));
    }
    if errors.is_empty() {
        Ok(sources)
    } else {
        Err(errors)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    version: u32,
    feeds: Vec<serde_json::Map<String, Value>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_wrong_is_said_at_once() {
        let text = "version: 2\nfeeds:\n- {name: x, colour: red}\n- {path: a, confidence: 200}\n";
        let errors = read(text, Path::new(".")).unwrap_err();
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with("feeds[1].confidence: `200`"))
        );
        assert!(read("version: 1", Path::new(".")).is_err());
    }

    #[test]
    fn paths_start_where_the_manifest_lies() {
        let text = "version: 1\nfeeds:\n- path: a.txt\n  role: allow\n  confidence: 80\n  max_age_days: 30\n";
        let sources = read(text, Path::new("/feeds")).unwrap();
        let source = sources.first().unwrap();
        assert_eq!(source.path, Path::new("/feeds/a.txt"));
        assert_eq!(
            (source.confidence, source.max_age_days),
            (Some(80), Some(30))
        );
    }
}
