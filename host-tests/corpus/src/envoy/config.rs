//! The Envoy configuration of the ring, as JSON.

use std::path::Path;

use serde_json::{Value, json};

use super::text;
use crate::case::Profile;
use crate::document::{Document, ENVIRONMENT};

/// A listener with the filter in it.
#[derive(Clone, Copy, Debug)]
pub struct Listener<'a> {
    /// The run, which is also the `root_id`.
    pub name: &'a str,
    /// Where it listens.
    pub socket: &'a Path,
    /// The pause profile.
    pub profile: Profile,
    /// The policy.
    pub document: &'a Document,
}

const TYPE: &str = "type.googleapis.com/";
const HTTP: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const CONNECTIONS: &str =
    "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig";

/// The name of the access log's file.
pub const ACCESS_LOG: &str = "access.log";

impl Listener<'_> {
    /// The listener. Nothing of Envoy's edge hardening stands before the filter: paths are left as
    /// they come, underscores pass, and the address is that of `x-forwarded-for`.
    pub fn render(&self, wasm: &Path) -> Value {
        let routes = json!([
            { "match": { "prefix": "/" }, "route": { "cluster": "upstream", "timeout": "10s" } },
            {
                "match": { "connect_matcher": {} },
                "route": { "cluster": "upstream", "timeout": "10s" },
            },
        ]);
        json!({
            "name": self.name,
            "address": { "pipe": { "path": text(self.socket) } },
            "per_connection_buffer_limit_bytes": 8 << 20,
            "filter_chains": [{ "filters": [{
                "name": "http",
                "typed_config": {
                    "@type": format!("{TYPE}{HTTP}"),
                    "stat_prefix": "http",
                    "codec_type": "AUTO",
                    "use_remote_address": false,
                    "normalize_path": false,
                    "merge_slashes": false,
                    "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
                    "stream_idle_timeout": "10s",
                    "request_timeout": "10s",
                    "common_http_protocol_options": { "headers_with_underscores_action": "ALLOW" },
                    "http_protocol_options": { "enable_trailers": true },
                    "http2_protocol_options": {
                        "allow_connect": true,
                        "initial_stream_window_size": 1 << 24,
                        "initial_connection_window_size": 1 << 24,
                    },
                    "access_log": [self.access_log()],
                    "upgrade_configs": [{ "upgrade_type": "websocket" }, { "upgrade_type": "CONNECT" }],
                    "route_config": {
                        "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }],
                    },
                    "http_filters": [
                        self.filter(wasm),
                        {
                            "name": "router",
                            "typed_config": {
                                "@type": format!("{TYPE}envoy.extensions.filters.http.router.v3.Router"),
                            },
                        },
                    ],
                },
            }] }],
        })
    }

    /// A line of JSON a request in the file [`ACCESS_LOG`] beside the socket: the listener's name, the
    /// status, and the filter's record.
    fn access_log(&self) -> Value {
        json!({
            "name": "file",
            "typed_config": {
                "@type": format!("{TYPE}envoy.extensions.access_loggers.file.v3.FileAccessLog"),
                "path": text(&self.socket.with_file_name(ACCESS_LOG)),
                "log_format": { "json_format": {
                    "listener": self.name,
                    "status": "%RESPONSE_CODE%",
                    "details": "%RESPONSE_CODE_DETAILS%",
                    "gate": "%TYPED_CEL(filter_state['wasm.portcullis'])%",
                } },
            },
        })
    }

    /// The filter alone.
    pub fn filter(&self, wasm: &Path) -> Value {
        json!({
            "name": "portcullis",
            "typed_config": {
                "@type": format!("{TYPE}envoy.extensions.filters.http.wasm.v3.Wasm"),
                "config": {
                    "name": "portcullis",
                    "root_id": self.name,
                    "failure_policy": "FAIL_RELOAD",
                    "allow_on_headers_stop_iteration": self.profile == Profile::Headers,
                    "configuration": self.configuration(),
                    "vm_config": {
                        "vm_id": "portcullis",
                        "environment_variables": {
                            "host_env_keys": ENVIRONMENT.iter().map(|(name, _)| name).collect::<Vec<_>>(),
                        },
                        "runtime": "envoy.wasm.runtime.v8",
                        "code": { "local": { "filename": text(wasm) } },
                    },
                },
            },
        })
    }

    /// The policy in the form that belongs to the profile.
    fn configuration(&self) -> Value {
        let document = self.document.in_profile(self.profile);
        match self.profile {
            Profile::Headers => json!({
                "@type": format!("{TYPE}google.protobuf.Struct"),
                "value": document,
            }),
            Profile::Body => json!({
                "@type": format!("{TYPE}google.protobuf.StringValue"),
                "value": document.to_string(),
            }),
        }
    }
}

/// A whole configuration. The admin interface listens on `admin.sock` in the directory.
pub fn bootstrap(directory: &Path, upstream: &Path, listeners: &[Value]) -> Value {
    json!({
        "admin": { "address": { "pipe": { "path": text(&directory.join("admin.sock")) } } },
        "static_resources": { "listeners": listeners, "clusters": [cluster(upstream)] },
        // Without a limit Envoy warns, and a warning is an alarm here.
        "overload_manager": { "resource_monitors": [{
            "name": "envoy.resource_monitors.global_downstream_max_connections",
            "typed_config": {
                "@type": format!("{TYPE}{CONNECTIONS}"),
                "max_active_downstream_connections": 1000,
            },
        }] },
    })
}

/// The upstream.
pub fn cluster(socket: &Path) -> Value {
    named_cluster("upstream", socket)
}

/// A cluster of one host on a Unix socket.
pub fn named_cluster(name: &str, socket: &Path) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "per_connection_buffer_limit_bytes": 8 << 20,
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": format!("{TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": { "http_protocol_options": { "enable_trailers": true } },
            },
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{
                "endpoint": { "address": { "pipe": { "path": text(socket) } } },
            }] }],
        },
    })
}
