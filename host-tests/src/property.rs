//! Attributes that a guest reads with `proxy_get_property` (Envoy's attributes, as far as a host
//! without listeners and routes has them).

use crate::{abi::MapType, headers::HeaderMap, host::Host};

/// The value at a path, whose segments are separated by zero bytes. What a test or `serve` set
/// comes first; then the plugin's and the request's own attributes; then what a guest set.
pub(crate) fn lookup(host: &Host, context: u32, path: &[u8]) -> Option<Vec<u8>> {
    let given = host
        .exchange(context)
        .and_then(|exchange| exchange.properties.get(path));
    if let Some(value) = given {
        return Some(value.clone());
    }
    let (first, rest) = match path.iter().position(|&byte| byte == 0) {
        Some(at) => {
            let (first, rest) = path.split_at(at);
            (first, rest.get(1..))
        }
        None => (path, None),
    };
    match (first, rest) {
        (b"plugin_name", None) => Some(host.root_context(context)?.plugin.name.clone()),
        (b"plugin_root_id", None) => Some(host.root_context(context)?.plugin.root_id.clone()),
        (b"plugin_vm_id", None) => Some(host.shared.settings.vm_id.clone()),
        (b"connection_id", None) => host
            .exchange(context)
            .map(|exchange| exchange.connection.to_le_bytes().to_vec()),
        (b"request", Some(attribute)) => request(host, context, attribute),
        (b"response", Some(attribute)) => response(host, context, attribute),
        (_, None) => host.exchange(context)?.filter_state.get(path).cloned(),
        _ => None,
    }
}

fn request(host: &Host, context: u32, attribute: &[u8]) -> Option<Vec<u8>> {
    let map = visible(host, context, MapType::RequestHeaders)?;
    let get = |name: &[u8]| map.get(name).map(<[u8]>::to_vec);
    let path_part = |after: bool| {
        let path = map.get(b":path")?;
        let mut parts = path.splitn(2, |&byte| byte == b'?');
        let (path, query) = (parts.next()?, parts.next());
        Some(
            if after {
                query.unwrap_or_default()
            } else {
                path
            }
            .to_vec(),
        )
    };
    match attribute {
        b"path" => get(b":path"),
        b"url_path" => path_part(false),
        b"query" => path_part(true),
        b"host" => get(b":authority"),
        b"scheme" => get(b":scheme"),
        b"method" => get(b":method"),
        b"referer" => get(b"referer"),
        b"useragent" => get(b"user-agent"),
        b"id" => get(b"x-request-id"),
        _ => get(attribute.strip_prefix(b"headers\0")?),
    }
}

fn response(host: &Host, context: u32, attribute: &[u8]) -> Option<Vec<u8>> {
    let map = visible(host, context, MapType::ResponseHeaders)?;
    match attribute {
        b"code" => {
            let code: i64 = str::from_utf8(map.get(b":status")?).ok()?.parse().ok()?;
            Some(code.to_le_bytes().to_vec())
        }
        _ => map
            .get(attribute.strip_prefix(b"headers\0")?)
            .map(<[u8]>::to_vec),
    }
}

fn visible(host: &Host, context: u32, map: MapType) -> Option<&HeaderMap> {
    host.exchange(context)?.visible_map(map)
}
