//! All cases with the documents and keys that they name.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use portcullis_policy::Reason;

use crate::case::Case;
use crate::document::{Document, ENVIRONMENT, from_yaml};
use crate::pattern::Pattern;
use crate::source::{self, Keys, List};

/// A list of cases, and all that they refer to by name.
#[derive(Debug)]
pub struct Corpus {
    /// In the order of their files and of the files' names.
    pub cases: Vec<Case>,
    /// The policy documents by name.
    pub documents: BTreeMap<String, Document>,
    /// The test keys by name.
    pub keys: BTreeMap<String, String>,
}

impl Corpus {
    /// The corpus that every ring runs: `examples/cases/*.yaml`.
    ///
    /// # Errors
    /// Everything that is wrong with the files, one line each.
    pub fn load() -> Result<Self, Vec<String>> {
        Self::read(&examples().join("cases"), List::Corpus)
    }

    /// The list against the shipped edge settings: `examples/cases/edge/*.yaml`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_edge() -> Result<Self, Vec<String>> {
        Self::read(&examples().join("cases/edge"), List::Edge)
    }

    fn read(directory: &Path, list: List) -> Result<Self, Vec<String>> {
        let one = |error: String| vec![error];
        let shared = examples().join("cases");
        let keys_file = shared.join("keys.yaml");
        let text = read(&keys_file).map_err(one)?;
        let keys: Keys = from_yaml(&text).map_err(|e| one(format!("keys.yaml: {e}")))?;

        let mut documents = BTreeMap::new();
        let demo = [("demo".to_owned(), examples().join("policy.yaml"))];
        for (name, path) in yaml_files(&shared.join("policies"))
            .map_err(one)?
            .into_iter()
            .chain(demo)
        {
            documents.insert(name.clone(), Document::read(&name, &path).map_err(one)?);
        }

        let mut corpus = Self {
            cases: Vec::new(),
            documents,
            keys,
        };
        let mut errors = Vec::new();
        for (name, path) in yaml_files(directory).map_err(one)? {
            if path == keys_file {
                continue;
            }
            let text = read(&path).map_err(one)?;
            match source::parse(&format!("{name}.yaml"), &text, &corpus.keys, list) {
                Ok(cases) => corpus.cases.extend(cases),
                Err(more) => errors.extend(more),
            }
        }
        for case in &corpus.cases {
            if !corpus.documents.contains_key(&case.policy) {
                errors.push(format!(
                    "{}: {}: no policy is named `{}`",
                    case.file, case.name, case.policy
                ));
            }
        }
        if errors.is_empty() {
            Ok(corpus)
        } else {
            Err(errors)
        }
    }

    /// How many reasons the cases expect, and the words of those that none does.
    pub fn reasons(&self) -> (usize, Vec<&'static str>) {
        let steps = self.cases.iter().flat_map(|case| &case.steps);
        let expected: BTreeSet<&str> = steps
            .filter_map(|step| step.expect.reason.as_ref())
            .map(Pattern::as_str)
            .collect();
        let (produced, missing): (Vec<_>, Vec<_>) = Reason::ALL
            .iter()
            .map(|reason| reason.word())
            .partition(|word| expected.contains(word));
        (produced.len(), missing)
    }

    /// The clusters that some case says anything of: these there are.
    pub fn clusters(&self) -> BTreeSet<String> {
        let steps = self.cases.iter().flat_map(|case| &case.steps);
        steps
            .flat_map(|step| step.clusters.keys().cloned())
            .collect()
    }

    /// The texts that must appear in no log and no answer.
    pub fn secrets(&self) -> Vec<&str> {
        let peppers = ENVIRONMENT.iter().map(|(_, pepper)| *pepper);
        let keys = self.keys.values().map(String::as_str);
        keys.chain(peppers).collect()
    }
}

/// The room of examples, wherever the repository lies.
fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn yaml_files(directory: &Path) -> Result<Vec<(String, PathBuf)>, String> {
    let failed = |e| format!("{}: {e}", directory.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension() == Some(OsStr::new("yaml"))
            && let Some(name) = path.file_stem().and_then(OsStr::to_str)
        {
            files.push((name.to_owned(), path));
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}
