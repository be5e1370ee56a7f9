//! Reads the URLs that the model is fitted on.

use std::collections::HashMap;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use portcullis_threat::structure::{Site, View};
use url::{Host, Url};

/// A URL with what is known of it
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Index into [`Data::sources`]
    pub(crate) source: usize,
    pub(crate) phish: bool,
    /// `YYYY-MM-DD`, or empty
    pub(crate) seen: String,
    pub(crate) host: Host<String>,
    pub(crate) port: Option<u16>,
    pub(crate) userinfo: bool,
    pub(crate) path: String,
    pub(crate) query: String,
}

/// Where URLs come from
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) phish: bool,
    /// Given beside the data: weighs less, and false alarms in it are told apart
    pub(crate) additional: bool,
}

impl Source {
    /// How much it weighs among the sources of its label
    pub(crate) fn weight(&self) -> f32 {
        if self.additional { 0.4 } else { 1.0 }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Data {
    pub(crate) sources: Vec<Source>,
    pub(crate) rows: Vec<Row>,
}

impl Row {
    pub(crate) fn view(&self) -> View<'_> {
        View {
            host: match &self.host {
                Host::Domain(name) => Site::Name(name.as_bytes()),
                Host::Ipv4(address) => Site::Address((*address).into()),
                Host::Ipv6(address) => Site::Address((*address).into()),
            },
            port: self.port,
            userinfo: self.userinfo,
            path: self.path.as_bytes(),
            query: self.query.as_bytes(),
        }
    }

    /// The host as text
    pub(crate) fn name(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            address => address.to_string(),
        }
    }
}

impl Data {
    /// Adds a file, gzipped or not, with the columns `label,source,first_seen,url` and a head line
    pub(crate) fn read(&mut self, file: &str) -> Result<(), String> {
        for line in text(file)?.lines().skip(1) {
            let mut fields = line.splitn(4, ',');
            let (Some(label), Some(source), Some(seen), Some(url)) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let url = match url.strip_prefix('"').and_then(|url| url.strip_suffix('"')) {
                Some(quoted) => quoted.replace("\"\"", "\""),
                None => url.to_owned(),
            };
            let source = self.source(source, label == "phish", false);
            self.push(source, label == "phish", seen, &url);
        }
        Ok(())
    }

    /// Adds a file with one URL a line
    pub(crate) fn read_plain(&mut self, file: &str, name: &str, phish: bool) -> Result<(), String> {
        let source = self.source(name, phish, true);
        for line in text(file)?.lines() {
            self.push(source, phish, "", line);
        }
        Ok(())
    }

    fn source(&mut self, name: &str, phish: bool, additional: bool) -> usize {
        let known = self.sources.iter().position(|known| known.name == name);
        known.unwrap_or_else(|| {
            self.sources.push(Source {
                name: name.to_owned(),
                phish,
                additional,
            });
            self.sources.len().saturating_sub(1)
        })
    }

    fn push(&mut self, source: usize, phish: bool, seen: &str, url: &str) {
        let Ok(url) = Url::parse(url.trim()) else {
            return;
        };
        if !matches!(url.scheme(), "http" | "https") {
            return;
        }
        let Some(host) = url.host().map(|host| host.to_owned()) else {
            return;
        };
        let host = match host {
            Host::Domain(name) => Host::Domain(name.trim_end_matches('.').to_owned()),
            other => other,
        };
        self.rows.push(Row {
            source,
            phish,
            seen: seen.to_owned(),
            host,
            port: url.port(),
            userinfo: !url.username().is_empty() || url.password().is_some(),
            path: url.path().to_owned(),
            query: url.query().unwrap_or_default().to_owned(),
        });
    }

    /// The same URL of the same source counts once
    pub(crate) fn deduplicate(&mut self) {
        let mut known = HashMap::new();
        self.rows.retain(|row| {
            let name = row.name();
            let name = name.strip_prefix("www.").unwrap_or(&name);
            let key = (
                row.source,
                format!("{name}{}?{}", row.path.trim_end_matches('/'), row.query),
            );
            known.insert(key, ()).is_none()
        });
    }
}

fn text(file: &str) -> Result<String, String> {
    let wrong = |error: std::io::Error| format!("{file}: {error}");
    let bytes = std::fs::read(file).map_err(wrong)?;
    let mut text = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        MultiGzDecoder::new(bytes.as_slice())
            .read_to_end(&mut text)
            .map_err(wrong)?;
    } else {
        text = bytes;
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
