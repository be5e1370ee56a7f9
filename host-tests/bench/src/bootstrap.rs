//! Envoy's configuration: a listener a variant, all in one process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::options::Population;
use crate::policy::{self, policy};
use crate::variant::Variant;

/// One variant in one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    /// The listener, the statistics and the row in the table.
    pub(crate) name: String,
    pub(crate) variant: Variant,
    /// The module, for variants that are one.
    pub(crate) module: Option<PathBuf>,
}

const TYPE: &str = "type.googleapis.com/";
const HTTP: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// The whole of it. Every port is chosen by the system.
pub(crate) fn bootstrap(lanes: &[Lane], population: Population) -> Value {
    let listeners: Vec<Value> = lanes
        .iter()
        .map(|lane| listener(lane, population))
        .collect();
    of(&listeners)
}

/// The same with listeners of the caller's.
pub(crate) fn of(listeners: &[Value]) -> Value {
    json!({
        // Discovery asks who is there, also where it is a file.
        "node": { "id": "bench", "cluster": "bench" },
        "admin": { "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } } },
        "static_resources": { "listeners": listeners },
    })
}

/// A listener of whatever protocol before an upstream cluster, with this policy in its gate or none.
///
/// Nothing in it is random: no request id, no time that the upstream took.
pub(crate) fn forwarding(name: &str, gate: Option<(&Path, &Value)>) -> Value {
    let filters = gate.map(|(module, policy)| wasm(name, module, Some(policy)));
    let router = filter(
        "envoy.filters.http.router",
        "router.v3.Router",
        json!({ "suppress_envoy_headers": true }),
    );
    let filters: Vec<Value> = filters.into_iter().chain([router]).collect();
    let routes = json!([{ "match": { "prefix": "/" }, "route": { "cluster": "upstream" } }]);
    let manager = json!({
        "@type": format!("{TYPE}{HTTP}"),
        "stat_prefix": name,
        "codec_type": "AUTO",
        "generate_request_id": false,
        "server_header_transformation": "PASS_THROUGH",
        "http_protocol_options": { "enable_trailers": true },
        "route_config": {
            "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }],
        },
        "http_filters": filters,
    });
    json!({
        "name": name,
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": manager,
        }] }],
    })
}

/// The cluster behind such listeners.
pub(crate) fn upstream(address: SocketAddr) -> Value {
    let socket = json!({ "address": address.ip(), "port_value": address.port() });
    let endpoint = json!({ "endpoint": { "address": { "socket_address": socket } } });
    let options = json!({
        "@type": format!("{TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
        "explicit_http_config": { "http_protocol_options": { "enable_trailers": true } },
    });
    json!({
        "name": "upstream",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{ "lb_endpoints": [endpoint] }],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options,
        },
    })
}

/// A listener of the gate with a policy of the caller's.
pub(crate) fn gate(name: &str, module: &Path, policy: &Value) -> Value {
    listener_of(name, &[wasm(name, module, Some(policy))])
}

/// A listener whose gate is configured by what stands in a file: an extension configuration that is
/// discovered (ECDS).
pub(crate) fn discovered(name: &str, file: &Path) -> Value {
    let source = json!({
        "path_config_source": { "path": file },
        "resource_api_version": "V3",
    });
    let filter = json!({
        "name": name,
        "config_discovery": {
            "config_source": source,
            "type_urls": [format!("{TYPE}envoy.extensions.filters.http.wasm.v3.Wasm")],
        },
    });
    listener_of(name, &[filter])
}

/// What such a file holds.
pub(crate) fn extension(name: &str, module: &Path, policy: &Value) -> Value {
    let mut resource = wasm(name, module, Some(policy));
    if let Some(resource) = resource.as_object_mut() {
        let kind = format!("{TYPE}envoy.config.core.v3.TypedExtensionConfig");
        resource.insert("@type".to_owned(), kind.into());
        resource.insert("name".to_owned(), name.into());
    }
    json!({ "resources": [resource] })
}

fn listener(lane: &Lane, population: Population) -> Value {
    let module = lane.module.as_deref().unwrap_or(Path::new(""));
    let filters = match lane.variant {
        Variant::None => Vec::new(),
        Variant::Noop => vec![wasm(&lane.name, module, None)],
        Variant::Native => native(population),
        Variant::Lua => vec![lua(population)],
        Variant::Core
        | Variant::Full
        | Variant::Unauthorized
        | Variant::Flood
        | Variant::Limited => {
            vec![wasm(
                &lane.name,
                module,
                Some(&policy(lane.variant, population)),
            )]
        }
    };
    listener_of(&lane.name, &filters)
}

fn listener_of(name: &str, filters: &[Value]) -> Value {
    let mut filters = filters.to_vec();
    filters.push(filter(
        "envoy.filters.http.router",
        "router.v3.Router",
        json!({}),
    ));
    let answer = json!({ "status": 200, "body": { "inline_string": "ok\n" } });
    let routes = json!([{ "match": { "prefix": "/" }, "direct_response": answer }]);
    json!({
        "name": name,
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        "enable_reuse_port": false,
        // Without it one worker may get most of the connections.
        "connection_balance_config": { "exact_balance": {} },
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": format!("{TYPE}{HTTP}"),
                "stat_prefix": name,
                "codec_type": "HTTP1",
                "route_config": {
                    "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }],
                },
                "http_filters": filters,
            },
        }] }],
    })
}

fn filter(name: &str, kind: &str, mut config: Value) -> Value {
    if let Some(config) = config.as_object_mut() {
        let kind = format!("{TYPE}envoy.extensions.filters.http.{kind}");
        config.insert("@type".to_owned(), kind.into());
    }
    json!({ "name": name, "typed_config": config })
}

/// A module as `envoy/envoy.yaml` has it, in a VM of its own.
fn wasm(name: &str, module: &Path, policy: Option<&Value>) -> Value {
    let mut config = json!({
        "name": "portcullis",
        "root_id": name,
        "failure_policy": "FAIL_RELOAD",
        "allow_on_headers_stop_iteration": true,
        "vm_config": {
            "vm_id": name,
            "runtime": "envoy.wasm.runtime.v8",
            "code": { "local": { "filename": module } },
        },
    });
    if let (Some(config), Some(policy)) = (config.as_object_mut(), policy) {
        let configuration =
            json!({ "@type": format!("{TYPE}google.protobuf.Struct"), "value": policy });
        config.insert("configuration".to_owned(), configuration);
    }
    filter(
        "envoy.filters.http.wasm",
        "wasm.v3.Wasm",
        json!({ "config": config }),
    )
}

/// Envoy's own filters for the same job: who calls, a bucket for each, one rule, three rate headers.
fn native(population: Population) -> Vec<Value> {
    const CLIENT: &str = "x-client-id";
    let credentials: Vec<Value> = (1..=population.principals())
        .map(|number| {
            let client = format!("principal-{number}");
            json!({ "key": policy::key(policy::GOOD, number), "client": client })
        })
        .collect();
    let (count, _) = policy::passing_rate(population);
    let bucket = json!({ "max_tokens": count, "tokens_per_fill": count, "fill_interval": "60s" });
    let always = json!({ "default_value": { "numerator": 100, "denominator": "HUNDRED" } });
    let limit = json!({
        "stat_prefix": "native",
        "token_bucket": bucket,
        "always_consume_default_token_bucket": false,
        "filter_enabled": always,
        "filter_enforced": always,
        "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
        // A client that does not fit starts with a full bucket each time it comes back.
        "max_dynamic_descriptors": population.principals().max(1).saturating_mul(2),
        "descriptors": [{ "entries": [{ "key": "client" }], "token_bucket": bucket }],
        "rate_limits": [{ "actions": [{
            "request_headers": { "header_name": CLIENT, "descriptor_key": "client" },
        }] }],
    });
    let reads = json!({ "and_rules": { "rules": [
        { "header": { "name": ":method", "string_match": { "exact": "GET" } } },
        { "url_path": { "path": { "prefix": "/v1/" } } },
    ] } });
    let known = json!({ "header": { "name": CLIENT, "present_match": true } });
    vec![
        filter(
            "envoy.filters.http.api_key_auth",
            "api_key_auth.v3.ApiKeyAuth",
            json!({
                "credentials": credentials,
                "key_sources": [{ "header": "authorization" }],
                "forwarding": { "header": CLIENT, "hide_credentials": true },
            }),
        ),
        filter(
            "envoy.filters.http.local_ratelimit",
            "local_ratelimit.v3.LocalRateLimit",
            limit,
        ),
        filter(
            "envoy.filters.http.rbac",
            "rbac.v3.RBAC",
            json!({ "rules": {
            "action": "ALLOW",
            "policies": { "read": { "permissions": [reads], "principals": [known] } },
        } }),
        ),
    ]
}

fn lua(population: Population) -> Value {
    let (count, _) = policy::passing_rate(population);
    let script = include_str!("limiter.lua")
        .replace("@COUNT@", &count.to_string())
        .replace("@KEYS@", &population.principals().to_string())
        .replace("@PREFIX@", policy::GOOD);
    let source = json!({ "default_source_code": { "inline_string": script } });
    filter("envoy.filters.http.lua", "lua.v3.Lua", source)
}
