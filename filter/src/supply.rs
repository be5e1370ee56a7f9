//! Files that a policy has fetched: turns of the engine, and what is told of them.

use std::rc::Rc;

use portcullis_policy::Policy;

use crate::callout;
use crate::metrics;
use crate::shared_data::SharedData;
use crate::vm;

/// Does the next small thing; whether there is more to do soon
pub(crate) fn tick(root: u32, policy: &Rc<Policy>) -> bool {
    let supply = vm::decide(|engine, moment| engine.supply(policy, moment, &mut SharedData));
    let Some(supply) = supply else { return false };
    for (call, query) in supply.calls {
        callout::begin(root, call, query);
    }
    for notice in &supply.notices {
        if notice.is_warning {
            log::warn!("{}", notice.text);
        } else {
            log::info!("{}", notice.text);
        }
    }
    if !supply.is_busy {
        vm::decide(|engine, moment| {
            for bundle in engine.bundles(policy, moment.monotonic) {
                metrics::bundle(&bundle);
            }
            if let Some(feeds) = engine.feeds(policy, moment) {
                metrics::feeds(&feeds);
            }
        });
    }
    supply.is_busy
}
