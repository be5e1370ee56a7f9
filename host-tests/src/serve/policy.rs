//! Reading a policy file. The module takes JSON text; people write YAML.

use std::{ffi::OsStr, fs, path::Path};

use super::ServeError;

/// The JSON text of a policy that is written in YAML or JSON.
///
/// A `.json` file is handed on as it is, so that the module sees what the file says, duplicate
/// keys included. Anything else is read as YAML 1.2, which refuses those itself.
///
/// # Errors
/// If the file can't be read, or is not YAML.
pub fn load_policy(path: &Path) -> Result<Vec<u8>, ServeError> {
    let failed = |error: String| ServeError::Policy {
        path: path.to_owned(),
        error,
    };
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    if path.extension() == Some(OsStr::new("json")) {
        return Ok(text.into_bytes());
    }
    to_json(&text).map_err(failed)
}

fn to_json(yaml: &str) -> Result<Vec<u8>, String> {
    let value: serde_json::Value =
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
    serde_json::to_vec(&value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_becomes_json() {
        let yaml = "version: 1\nmode: enforce\nlist: [a, 2, 2.5, true, ~]\n\"off\": x\n";
        let json = String::from_utf8(to_json(yaml).unwrap()).unwrap();
        assert_eq!(
            json,
            r#"{"list":["a",2,2.5,true,null],"mode":"enforce","off":"x","version":1}"#
        );
    }

    #[test]
    fn a_mistake_is_placed() {
        let error = to_json("version: 1\nversion: 2\n").unwrap_err();
        assert!(error.contains("version") && error.contains('2'), "{error}");
        assert!(to_json("a: [1\nb: 2").unwrap_err().contains("line"));
    }

    #[test]
    fn a_json_file_is_handed_on_as_it_is() {
        let path =
            std::env::temp_dir().join(format!("portcullis-policy-{}.json", std::process::id()));
        let text = r#"{ "a": 1, "a": 2 }"#;
        fs::write(&path, text).unwrap();
        let read = load_policy(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(read, text.as_bytes());
        let error = load_policy(&path).unwrap_err().to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
    }
}
