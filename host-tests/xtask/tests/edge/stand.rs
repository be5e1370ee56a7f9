//! The shipped configuration between a client and an upstream.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use portcullis_upstream::Upstream;
use xtask::certificate::Certificate;
use xtask::edge::Edge;
use xtask::http::{self, Answer};
use xtask::template::{self, Settings};
use xtask::workspace::{self, Workspace};

/// A key of the demo policy with every scope, and the authority it belongs to.
pub(crate) const KEY: &str =
    "host: api.cybervault.io\r\nauthorization: Bearer demo-globex-enterprise\r\n";
/// A host of each dialect: the two APIs (spelt as Envoy may get them), and none.
pub(crate) const HOSTS: [&str; 3] = ["api.cybervault.io", "API.Cyborux.com.:443", "other.example"];

/// The shipped configuration between a client and an upstream.
pub(crate) struct Stand {
    pub(crate) edge: Edge,
    pub(crate) upstream: Upstream,
    pub(crate) folder: PathBuf,
}

impl Stand {
    pub(crate) fn start() -> Self {
        Self::changed(|_| {})
    }

    /// With a change to the configuration's text.
    pub(crate) fn changed(change: impl FnOnce(&mut String)) -> Self {
        let upstream = Upstream::start(([127, 0, 0, 1], 0).into()).unwrap();
        let port = upstream.address().port();
        let mut config = config(Settings {
            upstream_port: Some(port),
            ..Settings::default()
        });
        change(&mut config);
        let folder = folder();
        let edge = Edge::start(&envoy(), &config, &folder, Some(1)).unwrap();
        Self {
            edge,
            upstream,
            folder,
        }
    }

    #[track_caller]
    pub(crate) fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        http::ask(
            self.edge.address(),
            request.as_ref(),
            Duration::from_secs(20),
        )
        .unwrap()
    }

    /// Ends Envoy; returns its access log.
    pub(crate) fn access_log(&mut self) -> String {
        self.edge.end();
        workspace::read(&self.folder.join("access.log")).unwrap()
    }

    /// GETs with a key and more header lines.
    #[track_caller]
    pub(crate) fn get(&self, path: &str, headers: &str) -> Answer {
        self.ask(format!("GET {path} HTTP/1.1\r\n{KEY}{headers}\r\n"))
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.edge.log().unwrap_or_default());
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

pub(crate) fn config(settings: Settings<'_>) -> String {
    let workspace = Workspace::find().unwrap();
    let module = module();
    let certificate = Certificate::obtain(&workspace).unwrap();
    let settings = Settings {
        port: Some(0),
        tls: Some(certificate.on(0)),
        admin_port: Some(0),
        wasm: module.to_str(),
        ..settings
    };
    template::render(
        &workspace::read(&workspace.envoy_yaml()).unwrap(),
        &settings,
    )
    .unwrap()
}

pub(crate) fn demo_policy() -> String {
    workspace::read(&Workspace::find().unwrap().policy()).unwrap()
}

pub(crate) fn module() -> PathBuf {
    required("PORTCULLIS_WASM")
}

pub(crate) fn envoy() -> PathBuf {
    required("ENVOY")
}

pub(crate) fn required(name: &str) -> PathBuf {
    match env::var_os(name) {
        Some(path) => path.into(),
        None => panic!("{name} is not set: run `cargo xtask test test`"),
    }
}

/// A new folder under target/.
pub(crate) fn folder() -> PathBuf {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::SeqCst);
    Workspace::find()
        .unwrap()
        .target()
        .join(format!("edge-test/{}-{serial}", std::process::id()))
}

/// A change that replaces `from`, which must be there.
pub(crate) fn replacing<'a>(from: &'a str, to: &'a str) -> impl FnOnce(&mut String) + 'a {
    move |config| {
        assert!(config.contains(from), "{from}");
        *config = config.replace(from, to);
    }
}
