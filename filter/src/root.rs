//! The root context: one configuration.

use std::rc::Rc;

use portcullis_policy::{Mode, Policy};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use crate::hostcall::{self, Buffer};
use crate::observer::{Bystander, Observer};
use crate::stream::Stream;
use crate::{callout, epoch, logger, metrics, queue, recorder, supply, ticker, vm};

/// One configuration of the filter; without a valid one every request is refused
#[derive(Debug)]
pub(crate) struct Root {
    /// What the host calls it
    context: u32,
    policy: Option<Rc<Policy>>,
}

/// Longest policy that is read, in bytes
const MAX_CONFIGURATION: usize = 16 * 1024 * 1024;

impl Root {
    pub(crate) fn new(context: u32) -> Self {
        Self {
            context,
            policy: None,
        }
    }

    fn configure(&mut self) -> Result<(), Vec<String>> {
        vm::start(epoch::join).map_err(|error| [error])?;
        let configuration = hostcall::buffer(Buffer::PluginConfiguration, MAX_CONFIGURATION)
            .map_err(|error| [format!("the host does not hand the policy over: {error:?}")])?;
        if configuration.is_empty() {
            return Err(
                ["there is no policy: write one under the plugin's configuration".into()].into(),
            );
        }
        let root_id = hostcall::property(&["plugin_root_id"]).unwrap_or_default();
        let namespace = String::from_utf8_lossy(&root_id);
        let policy = Policy::parse_with(&configuration, &namespace, &variable)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        log::info!("policy in force: {}", policy.summary());
        recorder::declare();
        metrics::in_force(&policy);
        if policy.wants_supply() && ticker::run(self.context, ticker::PAGES).is_none() {
            return Err(
                ["the host has no timer: allow proxy_set_tick_period_milliseconds".into()].into(),
            );
        }
        self.policy = Some(Rc::new(policy));
        Ok(())
    }
}

/// A variable of the VM's environment, which is what the host lets through of its own
fn variable(name: &str) -> Option<String> {
    let environment = hostcall::environment().ok()?;
    let value = environment
        .iter()
        .find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    core::str::from_utf8(value?).ok().map(Into::into)
}

impl Context for Root {}

impl RootContext for Root {
    /// Takes a policy over, or refuses it whole: then Envoy keeps the old one, or does not start
    fn on_configure(&mut self, _: usize) -> bool {
        logger::adopt_level();
        match self.configure() {
            Ok(()) => true,
            Err(errors) => {
                for error in errors {
                    log::error!("policy refused: {error}");
                }
                metrics::refused();
                false
            }
        }
    }

    fn on_tick(&mut self) {
        queue::tick(self.context);
        callout::tick(self.context);
        let supplied = self.policy.as_ref().filter(|policy| policy.wants_supply());
        let least = match supplied {
            None => 0,
            Some(policy) if supply::tick(self.context, policy) => ticker::PAGES,
            Some(_) => ticker::SUPPLY,
        };
        ticker::settle(self.context, least);
    }

    fn create_http_context(&self, context: u32) -> Option<Box<dyn HttpContext>> {
        // INVARIANT: never `None`: the SDK panics on it.
        let policy = self.policy.clone();
        Some(match &policy {
            Some(watching) if watching.mode() == Mode::Observe => {
                Box::new(Observer::new(context, self.context, Rc::clone(watching)))
            }
            Some(disabled) if disabled.mode() == Mode::Disabled => Box::new(Bystander),
            _ => Box::new(Stream::new(context, self.context, policy)),
        })
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
