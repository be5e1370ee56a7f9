//! The second list: the configuration that is shipped, as it is but for its addresses.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use xtask::certificate::Certificate;
use xtask::workspace::Workspace;

use super::process::{Directory, Process};
use super::upstream::Upstream;
use super::{START, Tools, Wire, outlived, text};
use crate::case::{Protocol, Run};
use crate::corpus::Corpus;
use crate::document::{Document, from_yaml};
use crate::ring::{Record, Ring, Session};
use crate::wire::stream::{Address, Deadline};

/// `envoy/envoy.yaml` with the demo policy in it. All cases share its accounts, so they must say
/// nothing of what is left.
#[derive(Debug)]
pub struct Edge {
    process: Process,
    upstream: Upstream,
    /// There are none: the shipped configuration has no other clusters.
    services: BTreeMap<String, Upstream>,
    plain: Address,
    /// Of HTTP/1.1 and of HTTP/2, which the client and Envoy agree on.
    tls: [Address; 2],
    decided: RefCell<Vec<Record>>,
}

impl Edge {
    /// Starts Envoy.
    ///
    /// # Errors
    /// A tool is missing, the configuration has another shape than this expects, or Envoy doesn't
    /// come up.
    pub fn start(_: &Corpus, _: &[Run<'_>]) -> Result<Self, String> {
        let tools = Tools::find()?;
        let directory = Directory::new()?;
        let upstream = Upstream::start(&directory.path().join("upstream.sock"))?;
        let certificate = Workspace::find().and_then(|workspace| Certificate::obtain(&workspace));
        let certificate = certificate.map_err(|e| e.to_string())?;
        let shown = certificate.on(0);
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../envoy/envoy.yaml");
        let yaml = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let mut shipped: Value =
            from_yaml(&yaml).map_err(|e| format!("{}: {e}", file.display()))?;
        for (pointer, value) in [
            (
                "/admin/address",
                json!({ "pipe": { "path": text(&directory.path().join("admin.sock")) } }),
            ),
            (
                "/static_resources/listeners/0/address/socket_address/port_value",
                json!(0),
            ),
            (
                "/static_resources/listeners/1/address/socket_address",
                json!({ "address": "127.0.0.1", "port_value": shown.port }),
            ),
            (
                CERTIFICATE,
                json!({
                    "certificate_chain": { "filename": shown.certificate },
                    "private_key": { "filename": shown.key },
                }),
            ),
            (
                "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address",
                json!({ "pipe": { "path": text(upstream.socket()) } }),
            ),
            // The second listener has the filters of the first, by an alias.
            (&module(0), json!(text(&tools.wasm))),
            (&module(1), json!(text(&tools.wasm))),
        ] {
            *shipped
                .pointer_mut(pointer)
                .ok_or_else(|| format!("envoy.yaml has no {pointer}"))? = value;
        }
        let mut process = Process::start(&tools.envoy, directory, &shipped)?;
        process.wait_until_live(Deadline::after(START))?;
        let plain = Address::Tcp(listener(&process, "edge")?);
        let tls = listener(&process, "edge_tls")?;
        let tls = ["http/1.1", "h2"].map(|protocol| Address::Tls {
            address: tls,
            name: "api.cybervault.io".to_owned(),
            protocol,
            authority: certificate.path().to_owned(),
        });
        Ok(Self {
            process,
            upstream,
            services: BTreeMap::new(),
            plain,
            tls,
            decided: RefCell::default(),
        })
    }
}

const CERTIFICATE: &str = "/static_resources/listeners/1/filter_chains/0/transport_socket/typed_config\
    /common_tls_context/tls_certificates/0";

/// The place of the module's path in a listener.
fn module(listener: usize) -> String {
    format!(
        "/static_resources/listeners/{listener}/filter_chains/0/filters/0/typed_config/http_filters/1\
        /typed_config/config/vm_config/code/local/filename"
    )
}

/// Where a listener listens, since its port was left to the system.
fn listener(process: &Process, name: &str) -> Result<SocketAddr, String> {
    let text = process.admin("/listeners?format=json")?;
    let listeners: Value =
        serde_json::from_str(&text).map_err(|e| format!("admin /listeners: {e}"))?;
    let statuses = listeners.get("listener_statuses").and_then(Value::as_array);
    let port = statuses
        .into_iter()
        .flatten()
        .find(|status| status.get("name").and_then(Value::as_str) == Some(name))
        .and_then(|status| status.pointer("/local_address/socket_address/port_value"))
        .and_then(Value::as_u64)
        .and_then(|port| u16::try_from(port).ok());
    let port = port.ok_or_else(|| format!("admin /listeners names no port of {name}: {text}"))?;
    Ok(([127, 0, 0, 1], port).into())
}

impl Ring for Edge {
    const NAME: &'static str = "edge";
    const IS_REAL: bool = true;

    fn begin<'a>(
        &'a mut self,
        run: Run<'a>,
        _document: &'a Document,
    ) -> Result<Box<dyn Session + 'a>, String> {
        // The shipped filter has no root_id.
        let root = String::new();
        Ok(Box::new(Wire {
            process: &self.process,
            upstream: &self.upstream,
            services: &self.services,
            address: match (run.case.tls, run.protocol, &self.tls) {
                (false, ..) => &self.plain,
                (true, Protocol::H1, [h1, _]) => h1,
                (true, Protocol::H2, [_, h2]) => h2,
            },
            root,
            run,
            decided: &self.decided,
        }))
    }

    fn finish(&mut self) -> Result<(), String> {
        self.upstream.check_leaks()?;
        outlived(&self.process)
    }
}
