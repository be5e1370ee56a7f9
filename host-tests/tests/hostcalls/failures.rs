//! What the death of a VM does to its streams and to those that come after.

use std::time::Duration;

use portcullis_host::{Callback as C, FailurePolicy, MapType as M, ResponseScript, Settings};

use crate::{
    guest::{Guest, Number, Op, PAUSE, reply},
    scenario::{Got, OK, Scenario, get, got, post, scenarios},
};

fn unavailable() -> Got {
    got(503, &[], "")
}

/// Dies the second time that this callback comes.
fn dying(callback: C) -> Guest {
    Guest::new().on(callback, [Op::Nth(2, vec![Op::Trap])])
}

fn reloading(settings: &mut Settings) {
    settings.failure = FailurePolicy::Reload {
        backoff: Duration::from_secs(1),
    };
}

scenarios! {
    death_in_request_headers => Scenario::new(dying(C::RequestHeaders))
        .client(get("/"))
        .client(get("/"))
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
            "on_context_create 3 1",
            "on_request_headers 3 6 1",
        ])
        .gets(got(200, OK, "ok"))
        .gets(unavailable())
        .gets(unavailable())
        .forwards("", "");

    death_in_a_request_body => Scenario::new(dying(C::RequestBody))
        .client(post(&["one"]))
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_request_body 2 3 0",
            "on_request_body 2 0 1",
        ])
        .gets(unavailable())
        .gets(unavailable());

    death_in_response_headers => Scenario::new(dying(C::ResponseHeaders))
        .client(get("/"))
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
            "on_context_create 3 1",
            "on_request_headers 3 6 1",
            "on_response_headers 3 3 0",
        ])
        .gets(got(200, OK, "ok"))
        .gets(unavailable())
        .forwards("", "")
        .forwards("", "");

    death_in_a_response_body => Scenario::new(Guest::new().on(C::ResponseBody, [Op::Trap]))
        .upstream(ResponseScript::new(200).piece("one").trailers(Vec::new()))
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 3 0",
            "on_response_body 2 3 0",
        ])
        .gets(Got::Broken)
        .forwards("", "");

    death_while_being_created => Scenario::new(
            Guest::new().on(C::ContextCreate, [Op::Nth(2, vec![Op::Trap])]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
        ])
        .gets(unavailable());

    death_in_the_log => Scenario::new(Guest::new().on(C::Log, [Op::Trap]))
        .client(get("/"))
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
        ])
        .gets(got(200, OK, "ok"))
        .gets(unavailable())
        .forwards("", "");

    death_in_a_tick => Scenario::new(
            Guest::new()
                .on(C::RequestHeaders, [Op::Tick(1000)])
                .on(C::Tick, [Op::Trap]),
        )
        .client(get("/"))
        .client(get("/").comes_at(10))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "set_tick_period_milliseconds 0",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
            "on_tick 1",
        ])
        .gets(got(200, OK, "ok"))
        .gets(unavailable())
        .forwards("", "");

    death_after_a_reply_is_a_503 => Scenario::new(
            Guest::new().on(C::RequestHeaders, [reply(403, "no"), Op::Trap]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "send_local_response 0",
        ])
        .gets(unavailable());

    a_stream_held_by_a_dead_vm_hangs => Scenario::new(
            Guest::new()
                .on(C::RequestHeaders, [Op::SaveContext, Op::Tick(50), Op::Return(PAUSE)])
                .on(C::Tick, [Op::Act(Number::SavedContext), Op::Trap]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "set_tick_period_milliseconds 0",
            "on_tick 1",
            "set_effective_context 0",
        ])
        .gets(Got::Nothing);

    with_fail_open_everything_passes_a_dead_vm => Scenario::new(dying(C::RequestHeaders))
        .settings(|settings| settings.failure = FailurePolicy::Open)
        .client(get("/"))
        .client(get("/"))
        .client(post(&["one"]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
            "on_context_create 3 1",
            "on_request_headers 3 6 1",
        ])
        .gets(got(200, OK, "ok"))
        .gets(unavailable())
        .gets(got(200, OK, "ok"))
        .forwards("", "")
        .forwards("", "one");

    a_dead_vm_is_replaced_for_the_next_stream => Scenario::new(dying(C::RequestHeaders))
        .settings(reloading)
        .client(get("/"))
        .client(get("/"))
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
            "on_context_create 3 1",
            "on_request_headers 3 6 1",
            "on_context_create 1 0",
            "on_vm_start 1 0",
            "on_configure 1 3",
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, "ok"))
        .gets(unavailable())
        .gets(got(200, OK, "ok"))
        .forwards("", "")
        .forwards("", "");

    too_deep_a_recursion => Scenario::new(Guest::new().on(C::RequestHeaders, [Op::Recurse]))
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
        ])
        .gets(unavailable());

    the_guest_survives_proc_exit => Scenario::new(
            Guest::new().on(C::RequestHeaders, [Op::Nth(1, vec![Op::Exit(3)]), Op::GetHeader(M::RequestHeaders, ":path")]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "get_header_map_value 0 /",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, "ok"))
        .forwards("", "");
}
