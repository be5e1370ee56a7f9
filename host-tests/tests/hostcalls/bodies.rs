//! Request bodies and trailers: passed, paused, hidden, changed.

use portcullis_host::{BufferType as B, Callback as C, MapType as M};

use crate::{
    guest::{Guest, Op, PAUSE, body, hold, nosy, resume, until_end},
    scenario::{OK, Scenario, got, post, scenarios},
};

scenarios! {
    headers_paused_until_the_body_is_complete => Scenario::new(
            Guest::new()
                .on(C::RequestHeaders, [Op::Return(PAUSE)])
                .on(C::RequestBody, [
                    body(),
                    Op::GetHeader(M::RequestHeaders, ":path"),
                    until_end(),
                    Op::AddHeader(M::RequestHeaders, "x-seen", "all"),
                ]),
        )
        .client(post(&["one", "more"]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_request_body 2 3 0",
            "get_buffer_bytes 0 one",
            "get_header_map_value 0 /",
            "on_request_body 2 7 0",
            "get_buffer_bytes 0 onemore",
            "get_header_map_value 0 /",
            "on_request_body 2 7 1",
            "get_buffer_bytes 0 onemore",
            "get_header_map_value 0 /",
            "add_header_map_value 0",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, "ok"))
        .forwards("all", "onemore");

    a_body_paused_until_it_is_complete => Scenario::new(
            Guest::new().on(C::RequestBody, [
                body(),
                Op::BodyStatus(B::HttpRequestBody),
                until_end(),
                Op::AddHeader(M::RequestHeaders, "x-seen", "too late"),
            ]),
        )
        .client(post(&["one", "more"]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_request_body 2 3 0",
            "get_buffer_bytes 0 one",
            "get_buffer_status 0 3",
            "on_request_body 2 7 0",
            "get_buffer_bytes 0 onemore",
            "get_buffer_status 0 7",
            "on_request_body 2 7 1",
            "get_buffer_bytes 0 onemore",
            "get_buffer_status 0 7",
            "add_header_map_value 2",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, "ok"))
        .forwards("", "onemore");

    a_body_that_is_not_paused => Scenario::new(Guest::new())
        .client(post(&["one", "more"]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_request_body 2 3 0",
            "on_request_body 2 4 0",
            "on_request_body 2 0 1",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, "ok"))
        .forwards("", "onemore");

    trailers_are_the_end => Scenario::new(
            Guest::new()
                .on(C::RequestHeaders, [Op::Return(PAUSE)])
                .on(C::RequestBody, [body(), until_end()])
                .on(C::RequestTrailers, [
                    body(),
                    Op::GetHeader(M::RequestTrailers, "t"),
                    Op::AddHeader(M::RequestHeaders, "x-seen", "trailers"),
                    Op::AddHeader(M::RequestTrailers, "u", "v"),
                ]),
        )
        .client(post(&["one"]).trailer("t", "yes"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_request_body 2 3 0",
            "get_buffer_bytes 0 one",
            "on_request_trailers 2 1",
            "get_buffer_bytes 0 one",
            "get_header_map_value 0 yes",
            "add_header_map_value 0",
            "add_header_map_value 0",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, "ok"))
        .forwards("trailers", "one");

    trailers_that_pass => Scenario::new(
            Guest::new().on(C::RequestTrailers, nosy()),
        )
        .client(post(&["one"]).trailer("t", "yes"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_request_body 2 3 0",
            "on_request_trailers 2 1",
            "get_header_map_value 2 ",
            "get_buffer_bytes 0 ",
            "get_header_map_value 2 ",
            "get_buffer_bytes 0 ",
            "get_header_map_value 0 yes",
            "get_header_map_value 2 ",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, "ok"))
        .forwards("", "one");

    trailers_paused_and_resumed => Scenario::new(
            Guest::new()
                .on(C::RequestTrailers, hold())
                .on(C::Tick, resume(0)),
        )
        .client(post(&["one"]).trailer("t", "yes"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_request_body 2 3 0",
            "on_request_trailers 2 1",
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
        .forwards("", "one");

    a_whole_pause_hides_the_body_until_it_is_resumed => Scenario::new(
            Guest::new()
                .on(C::RequestHeaders, hold())
                .on(C::RequestBody, [body(), Op::GetHeader(M::RequestHeaders, ":path")])
                .on(C::Tick, resume(0)),
        )
        .settings(|settings| settings.allow_on_headers_stop_iteration = false)
        .client(post(&["one", "more"]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "set_tick_period_milliseconds 0",
            "on_tick 1",
            "set_effective_context 0",
            "continue_stream 0",
            "set_effective_context 0",
            "set_tick_period_milliseconds 0",
            "on_request_body 2 7 1",
            "get_buffer_bytes 0 onemore",
            "get_header_map_value 2 ",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, "ok"))
        .forwards("", "onemore");

    a_whole_pause_hides_trailers_too => Scenario::new(
            Guest::new()
                .on(C::RequestHeaders, hold())
                .on(C::RequestBody, [body(), until_end()])
                .on(C::RequestTrailers, nosy())
                .on(C::Tick, resume(0)),
        )
        .settings(|settings| settings.allow_on_headers_stop_iteration = false)
        .client(post(&["one"]).trailer("t", "yes"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "set_tick_period_milliseconds 0",
            "on_tick 1",
            "set_effective_context 0",
            "continue_stream 0",
            "set_effective_context 0",
            "set_tick_period_milliseconds 0",
            "on_request_body 2 3 0",
            "get_buffer_bytes 0 one",
            "on_request_trailers 2 1",
            "get_header_map_value 2 ",
            "get_buffer_bytes 0 one",
            "get_header_map_value 2 ",
            "get_buffer_bytes 0 ",
            "get_header_map_value 0 yes",
            "get_header_map_value 2 ",
            "on_request_trailers 2 1",
            "get_header_map_value 2 ",
            "get_buffer_bytes 0 one",
            "get_header_map_value 2 ",
            "get_buffer_bytes 0 ",
            "get_header_map_value 0 yes",
            "get_header_map_value 2 ",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, "ok"))
        .forwards("", "")
        .violates("Envoy loses the body of a stream that paused at its headers without \
                   allow_on_headers_stop_iteration, then in its body, then went on at its \
                   trailers");

    a_pause_resumed_by_a_tick_lets_the_body_pass_unseen => Scenario::new(
            Guest::new()
                .on(C::RequestHeaders, hold())
                .on(C::RequestBody, [body(), Op::Return(PAUSE)])
                .on(C::Tick, resume(0)),
        )
        .client(post(&["one", "more"]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "set_tick_period_milliseconds 0",
            "on_request_body 2 3 0",
            "get_buffer_bytes 0 one",
            "on_request_body 2 7 0",
            "get_buffer_bytes 0 onemore",
            "on_request_body 2 7 1",
            "get_buffer_bytes 0 onemore",
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
        .forwards("", "onemore");

    a_body_dropped_piece_by_piece => Scenario::new(
            Guest::new().on(C::RequestBody, [Op::IfLast(0, vec![Op::Return(3)]), body()]),
        )
        .client(post(&["one", "more"]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_request_body 2 3 0",
            "on_request_body 2 4 0",
            "on_request_body 2 0 1",
            "get_buffer_bytes 0 ",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, "ok"))
        .forwards("", "");

    a_body_held_by_back_pressure => Scenario::new(
            Guest::new().on(C::RequestBody, [body(), Op::IfLast(0, vec![Op::Return(2)])]),
        )
        .client(post(&["one", "more"]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_request_body 2 3 0",
            "get_buffer_bytes 0 one",
            "on_request_body 2 4 0",
            "get_buffer_bytes 0 more",
            "on_request_body 2 0 1",
            "get_buffer_bytes 0 ",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, "ok"))
        .forwards("", "onemore");

    a_paused_body_changed => Scenario::new(
            Guest::new().on(C::RequestBody, [
                until_end(),
                Op::SetBody(B::HttpRequestBody, 0, 0, "<"),
                Op::SetBody(B::HttpRequestBody, 100, 0, ">"),
                Op::SetBody(B::HttpRequestBody, 1, 1, "no"),
                Op::SetBody(B::HttpRequestBody, 0, 2, "no"),
                body(),
                Op::GetBody(B::HttpRequestBody, 1, 3),
                Op::GetBody(B::HttpRequestBody, 5, 0),
                Op::GetBody(B::HttpRequestBody, 5, u32::MAX),
            ]),
        )
        .client(post(&["one", "more"]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_request_body 2 3 0",
            "on_request_body 2 7 0",
            "on_request_body 2 7 1",
            "set_buffer_bytes 0",
            "set_buffer_bytes 0",
            "set_buffer_bytes 2",
            "set_buffer_bytes 0",
            "get_buffer_bytes 0 nonemore>",
            "get_buffer_bytes 0 one",
            "get_buffer_bytes 0 ",
            "get_buffer_bytes 0 ore>",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, "ok"))
        .forwards("", "nonemore>");

    a_passing_body_changed => Scenario::new(
            Guest::new().on(C::RequestBody, [
                Op::IfLast(0, vec![Op::SetBody(B::HttpRequestBody, 0, 100, "new ")]),
                Op::IfLast(1, vec![Op::SetBody(B::HttpRequestBody, 0, 0, "end")]),
            ]),
        )
        .client(post(&["one", "more"]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_request_body 2 3 0",
            "set_buffer_bytes 0",
            "on_request_body 2 4 0",
            "set_buffer_bytes 0",
            "on_request_body 2 0 1",
            "set_buffer_bytes 0",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, "ok"))
        .forwards("", "new new end");

    reading_past_the_end_of_a_body => Scenario::new(
            Guest::new().on(C::RequestBody, [Op::IfLast(0, vec![
                Op::GetBody(B::HttpRequestBody, 3, 5),
                Op::GetBody(B::HttpRequestBody, 2, 5),
                Op::GetBody(B::HttpRequestBody, 100, 5),
            ])]),
        )
        .client(post(&["one"]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_request_body 2 3 0",
            "get_buffer_bytes 0 ",
            "get_buffer_bytes 0 e",
            "get_buffer_bytes 0 ",
            "on_request_body 2 0 1",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, "ok"))
        .forwards("", "one");
}
