//! Looks things up in a threat bundle, to be timed from outside.
//!
//! The plugin's configuration is the bundle. The VM's says in three decimal numbers how many probes there are to
//! be, among how many expressions, and from which on; a fourth one stands for probes that look nothing up.

mod probe;

use portcullis_threat::{Bundle, Terms};
use proxy_wasm::traits::{Context, RootContext};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Root(None)) });
}}

#[derive(Debug)]
struct Root(Option<(Bundle, [u32; 3], bool)>);

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let asked = self.get_vm_configuration().unwrap_or_default();
        let asked = String::from_utf8_lossy(&asked);
        let mut numbers = asked.split(' ').filter_map(|word| word.parse().ok());
        let (Some(probes), Some(count), Some(first)) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        let is_blank = numbers.next().is_some();
        let bytes = self.get_plugin_configuration().unwrap_or_default();
        let bundle = Bundle::open(bytes, &Terms::default()).ok();
        self.0 = bundle.map(|bundle| (bundle, [probes, count, first], is_blank));
        self.set_tick_period(core::time::Duration::from_secs(1));
        self.0.is_some()
    }

    fn on_tick(&mut self) {
        let Some((bundle, [probes, count, first], is_blank)) = &self.0 else {
            return;
        };
        // Every probe of a listed one must hit, and no other may.
        let (found, expected) = match (is_blank, first) {
            (true, _) => (probe::blank(*probes, *count, *first), 0),
            (false, 0) => (probe::probe(bundle, *probes, *count, *first), *probes),
            (false, _) => (probe::probe(bundle, *probes, *count, *first), 0),
        };
        if found != expected {
            let _ = proxy_wasm::hostcalls::log(proxy_wasm::types::LogLevel::Critical, "wrong");
        }
    }
}
