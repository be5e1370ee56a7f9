//! Which callbacks come, in which order, and what the guest can see and change in them.

use portcullis_host::{Callback as C, MapType as M};

use crate::{
    guest::{CONTINUE, Guest, Number, Op, PAUSE, hold, nosy, resume},
    scenario::{Got, OK, Scenario, get, got, post, scenarios, text},
};

scenarios! {
    a_plain_request => Scenario::new(Guest::new())
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
        ])
        .gets(got(200, OK, "ok"))
        .forwards("", "");

    what_can_be_seen_when_everything_passes => Scenario::new(
            Guest::new()
                .on(C::RequestHeaders, nosy())
                .on(C::RequestBody, nosy())
                .on(C::ResponseHeaders, nosy())
                .on(C::ResponseBody, nosy())
                .on(C::Log, nosy())
                .on(C::Done, nosy())
                .on(C::Delete, nosy()),
        )
        .client(post(&["one"]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "get_header_map_value 0 /",
            "get_buffer_bytes 0 ",
            "get_header_map_value 2 ",
            "get_buffer_bytes 0 ",
            "get_header_map_value 2 ",
            "get_header_map_value 2 ",
            "on_request_body 2 3 0",
            "get_header_map_value 2 ",
            "get_buffer_bytes 0 one",
            "get_header_map_value 2 ",
            "get_buffer_bytes 0 ",
            "get_header_map_value 2 ",
            "get_header_map_value 2 ",
            "on_request_body 2 0 1",
            "get_header_map_value 2 ",
            "get_buffer_bytes 0 ",
            "get_header_map_value 2 ",
            "get_buffer_bytes 0 ",
            "get_header_map_value 2 ",
            "get_header_map_value 2 ",
            "on_response_headers 2 3 0",
            "get_header_map_value 2 ",
            "get_buffer_bytes 0 ",
            "get_header_map_value 0 200",
            "get_buffer_bytes 0 ",
            "get_header_map_value 2 ",
            "get_header_map_value 2 ",
            "on_response_body 2 2 0",
            "get_header_map_value 2 ",
            "get_buffer_bytes 0 ",
            "get_header_map_value 2 ",
            "get_buffer_bytes 0 ok",
            "get_header_map_value 2 ",
            "get_header_map_value 2 ",
            "on_response_body 2 0 1",
            "get_header_map_value 2 ",
            "get_buffer_bytes 0 ",
            "get_header_map_value 2 ",
            "get_buffer_bytes 0 ",
            "get_header_map_value 2 ",
            "get_header_map_value 2 ",
            "on_log 2",
            "get_header_map_value 0 /",
            "get_buffer_bytes 0 ",
            "get_header_map_value 0 200",
            "get_buffer_bytes 0 ",
            "get_header_map_value 1 ",
            "get_header_map_value 1 ",
            "on_done 2",
            "get_header_map_value 2 ",
            "get_buffer_bytes 0 ",
            "get_header_map_value 2 ",
            "get_buffer_bytes 0 ",
            "get_header_map_value 2 ",
            "get_header_map_value 2 ",
            "on_delete 2",
            "get_header_map_value 2 ",
            "get_buffer_bytes 0 ",
            "get_header_map_value 2 ",
            "get_buffer_bytes 0 ",
            "get_header_map_value 2 ",
            "get_header_map_value 2 ",
        ])
        .gets(got(200, OK, "ok"))
        .forwards("", "one");

    headers_paused_and_a_request_without_a_body => Scenario::new(
            Guest::new()
                .on(C::RequestHeaders, hold())
                .on(C::Tick, resume(0)),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "set_tick_period_milliseconds 0",
            "on_tick 1",
            "set_effective_context 0",
            "continue_stream 0",
            "set_effective_context 0",
            "set_tick_period_milliseconds 0",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, "ok"))
        .forwards("", "");

    resuming_hides_the_headers_at_once => Scenario::new(
            Guest::new()
                .on(C::RequestHeaders, [Op::Return(PAUSE)])
                .on(C::RequestBody, [
                    Op::IfLast(1, vec![
                        Op::GetHeader(M::RequestHeaders, ":path"),
                        Op::Continue(0),
                        Op::GetHeader(M::RequestHeaders, ":path"),
                        Op::AddHeader(M::RequestHeaders, "x-seen", "late"),
                    ]),
                    Op::Return(PAUSE),
                ])
                .on(C::Tick, resume(0)),
        )
        .client(post(&["one"]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_request_body 2 3 0",
            "on_request_body 2 3 1",
            "get_header_map_value 0 /",
            "continue_stream 0",
            "get_header_map_value 2 ",
            "add_header_map_value 2",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, "ok"))
        .forwards("", "one");

    request_headers_changed => Scenario::new(
            Guest::new().on(C::RequestHeaders, [
                Op::GetHeader(M::RequestHeaders, "X-A"),
                Op::GetHeader(M::RequestHeaders, "authorization"),
                Op::AddHeader(M::RequestHeaders, "X-Seen", "one"),
                Op::ReplaceHeader(M::RequestHeaders, "x-seen", "two"),
                Op::GetHeader(M::RequestHeaders, "x-seen"),
                Op::RemoveHeader(M::RequestHeaders, "x-a"),
                Op::RemoveHeader(M::RequestHeaders, "x-none"),
                Op::GetHeader(M::RequestHeaders, "x-a"),
                Op::GetHeader(M::RequestHeaders, "host"),
                Op::GetPairs(M::RequestHeaders),
                Op::AddHeader(M::ResponseHeaders, "x", "y"),
                Op::GetPairs(M::ResponseHeaders),
            ]),
        )
        .client(get("/").header("x-a", "1").header("x-a", "2")
            .header("authorization", "Bearer A").header("authorization", "Bearer B"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 9 1",
            "get_header_map_value 0 1",
            "get_header_map_value 0 Bearer A,Bearer B",
            "add_header_map_value 0",
            "replace_header_map_value 0",
            "get_header_map_value 0 two",
            "remove_header_map_value 0",
            "remove_header_map_value 0",
            "get_header_map_value 1 ",
            "get_header_map_value 0 localhost",
            "get_header_map_pairs 0 8",
            "add_header_map_value 2",
            "get_header_map_pairs 0 0",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, "ok"))
        .forwards("two", "");

    a_request_header_with_a_line_break => Scenario::new(
            Guest::new().on(C::RequestHeaders, [
                Op::AddHeader(M::RequestHeaders, "x-client", "a\r\nx-evil: 1"),
            ]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "add_header_map_value 0",
            "on_response_headers 2 3 0",
            "on_response_body 2 34 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(503, &text("34"), "invalid header value for: x-client"));

    a_request_without_a_path => Scenario::new(
            Guest::new().on(C::RequestHeaders, [Op::RemoveHeader(M::RequestHeaders, ":path")]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "remove_header_map_value 0",
            "on_response_headers 2 1 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(404, &[], ""));

    a_stream_that_is_never_resumed => Scenario::new(
            Guest::new().on(C::RequestHeaders, [Op::Return(PAUSE)]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(Got::Nothing);

    a_client_that_leaves_a_held_stream => Scenario::new(
            Guest::new().on(C::RequestHeaders, [Op::Return(PAUSE)]),
        )
        .client(get("/").leaves_at(2))
        .client(get("/").leaves_at(7))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
            "on_context_create 3 1",
            "on_request_headers 3 6 1",
            "on_log 3",
            "on_done 3",
            "on_delete 3",
        ])
        .gets(Got::Nothing)
        .gets(Got::Nothing);

    a_stream_closed_by_the_filter => Scenario::new(
            Guest::new().on(C::RequestHeaders, [Op::Close(0), Op::Return(PAUSE)]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "close_stream 0",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(Got::Broken);

    contexts_that_are_over_cannot_be_named => Scenario::new(
            Guest::new()
                .on(C::RequestHeaders, [Op::Act(Number::SavedContext), Op::SaveContext])
                .on(C::Log, [Op::Act(Number::SavedContext), Op::Act(Number::Is(0))])
                .on(C::Done, [Op::Act(Number::SavedContext)])
                .on(C::Delete, [Op::Act(Number::SavedContext), Op::Act(Number::Is(77)), Op::Done]),
        )
        .client(get("/"))
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "set_effective_context 0",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "set_effective_context 0",
            "set_effective_context 0",
            "on_done 2",
            "set_effective_context 0",
            "on_delete 2",
            "set_effective_context 0",
            "set_effective_context 2",
            "done 1",
            "on_context_create 3 1",
            "on_request_headers 3 6 1",
            "set_effective_context 2",
            "on_response_headers 3 3 0",
            "on_response_body 3 2 0",
            "on_response_body 3 0 1",
            "on_log 3",
            "set_effective_context 0",
            "set_effective_context 0",
            "on_done 3",
            "set_effective_context 0",
            "on_delete 3",
            "set_effective_context 0",
            "set_effective_context 2",
            "done 1",
        ])
        .gets(got(200, OK, "ok"))
        .gets(got(200, OK, "ok"))
        .forwards("", "")
        .forwards("", "");

    continue_is_the_default => Scenario::new(
            Guest::new()
                .on(C::RequestHeaders, [Op::Return(CONTINUE)])
                .without("proxy_on_request_body")
                .without("proxy_on_log")
                .without("proxy_on_response_headers"),
        )
        .client(post(&["one"]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, "ok"))
        .forwards("", "one");
}
