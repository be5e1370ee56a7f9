//! The proxy-wasm shell of Portcullis.
//!
//! It obtains facts, hands them to the policy core, and carries out what the core decides. It
//! holds no rules. Everything it asks of the host goes through `hostcall`, whose functions
//! return `Result`: the SDK's own getters panic on bytes and statuses that they don't expect, and
//! a panic takes the whole VM down.

mod callout;
mod clock;
mod comparing;
mod epoch;
mod hostcall;
mod kept;
mod logger;
mod metrics;
mod observer;
mod queue;
mod quota;
mod recorder;
mod root;
mod shared_data;
mod stream;
mod supply;
mod ticker;
mod vm;

use proxy_wasm::traits::RootContext;

proxy_wasm::main! {{
    logger::install();
    proxy_wasm::set_root_context(|context| -> Box<dyn RootContext> { Box::new(root::Root::new(context)) });
}}
