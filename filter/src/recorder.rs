//! What is told of a decision: to the access log, to the counters, to the log.

use portcullis_policy::Record;

use crate::hostcall;
use crate::metrics;

/// Under this name the host's access log finds the record: Envoy puts `wasm.` before it
const PROPERTY: &str = "portcullis";

/// Says that [`PROPERTY`] is a `google.protobuf.Struct`, so that an access log can take it apart
///
/// Envoy's own function, with `DeclarePropertyArguments` of its
/// `source/extensions/common/wasm/ext/declare_property.proto`: name (1), type (3) 3 for a message,
/// schema (4) its URL. A host without that function keeps bytes.
pub(crate) fn declare() {
    const SCHEMA: &str = "type.googleapis.com/google.protobuf.Struct";
    const PROTOBUF: [u8; 2] = [0x18, 3];
    let mut arguments = Vec::with_capacity(64);
    for (tag, text) in [(0x0a, PROPERTY), (0x22, SCHEMA)] {
        arguments.push(tag);
        arguments.push(u8::try_from(text.len()).unwrap_or_default());
        arguments.extend_from_slice(text.as_bytes());
    }
    arguments.extend_from_slice(&PROTOBUF);
    // Refused too when this configuration's name is declared already.
    let _: Result<(), _> = hostcall::call_foreign("declare_property", &arguments);
}

/// Hands a decision to the access log that is told of later, when more is known
pub(crate) fn announce(record: &Record) {
    if record.told().access_log {
        let _: Result<(), _> = hostcall::set_property(PROPERTY, &record.to_struct());
    }
}

/// Tells of a decision
///
/// One that is held is told when it is made, and once more in the rare case that its time was missed.
/// A record that the host does not take is lost: that is nobody's reason to refuse a request.
pub(crate) fn tell(record: &Record) {
    let told = record.told();
    announce(record);
    if let Some(counter) = record.comparison_counter() {
        metrics::count(&counter);
    }
    if told.metrics {
        metrics::count(&record.counter());
        if let Some(wait) = record.wait_ms() {
            metrics::held(wait);
        }
        if let Some(status) = record.limit_status() {
            metrics::count_status(status);
        }
        for counter in record.shadow_counters() {
            metrics::count(&counter);
        }
    }
    if record.expired() > 0 {
        metrics::count_expired(record.expired());
    }
    let level = if told.log {
        log::Level::Info
    } else {
        log::Level::Debug
    };
    log::log!(level, "decision {}", record.to_json());
}
