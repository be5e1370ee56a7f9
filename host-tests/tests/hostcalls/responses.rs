//! The way back: what the guest sees and changes of responses.

use portcullis_host::{BufferType as B, Callback as C, MapType as M, ResponseScript, headers};

use crate::{
    guest::{Guest, Op, PAUSE, answer_body, hold, resume, until_end},
    scenario::{Got, OK, Scenario, get, got, scenarios, text},
};

scenarios! {
    all_headers_replaced => Scenario::new(
            Guest::new().on(C::ResponseHeaders, [
                Op::SetPairs(M::ResponseHeaders, crate::guest::serialize(&headers([
                    (":status", "203"), ("content-length", "2"), ("x-new", "1"),
                ]))),
                Op::SetPairs(M::ResponseTrailers, Vec::new()),
                Op::GetPairs(M::ResponseHeaders),
                Op::MapSize(M::ResponseHeaders),
            ]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 3 0",
            "set_header_map_pairs 0",
            "set_header_map_pairs 2",
            "get_header_map_pairs 0 3",
            "get_header_map_size 0 31",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(203, &[("content-length", "2"), ("x-new", "1")], "ok"))
        .forwards("", "");

    response_headers_changed => Scenario::new(
            Guest::new().on(C::ResponseHeaders, [
                Op::GetHeader(M::ResponseHeaders, ":status"),
                Op::AddHeader(M::ResponseHeaders, "x-a", "1"),
                Op::AddHeader(M::ResponseHeaders, "x-a", "2"),
                Op::ReplaceHeader(M::ResponseHeaders, ":status", "202"),
                Op::AddHeader(M::RequestHeaders, "x-seen", "no"),
            ]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 3 0",
            "get_header_map_value 0 200",
            "add_header_map_value 0",
            "add_header_map_value 0",
            "replace_header_map_value 0",
            "add_header_map_value 2",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(202, &[("content-length", "2"), ("x-a", "1"), ("x-a", "2")], "ok"))
        .forwards("", "");

    a_response_without_a_status => Scenario::new(
            Guest::new().on(C::ResponseHeaders, [Op::RemoveHeader(M::ResponseHeaders, ":status")]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 3 0",
            "remove_header_map_value 0",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(502, &text("32"), "missing required header: :status"))
        .forwards("", "");

    a_response_paused_until_it_is_complete => Scenario::new(
            Guest::new()
                .on(C::ResponseHeaders, [Op::Return(PAUSE)])
                .on(C::ResponseBody, [
                    answer_body(),
                    until_end(),
                    Op::AddHeader(M::ResponseHeaders, "x-late", "1"),
                    Op::SetBody(B::HttpResponseBody, 0, 100, "OK"),
                ]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "get_buffer_bytes 0 ok",
            "on_response_body 2 2 1",
            "get_buffer_bytes 0 ok",
            "add_header_map_value 0",
            "set_buffer_bytes 0",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, &[("content-length", "2"), ("x-late", "1")], "OK"))
        .forwards("", "");

    a_response_with_trailers => Scenario::new(
            Guest::new()
                .on(C::ResponseBody, [answer_body(), until_end()])
                .on(C::ResponseTrailers, [
                    answer_body(),
                    Op::GetHeader(M::ResponseTrailers, "t"),
                ]),
        )
        .upstream(ResponseScript::new(200).piece("one").trailers(headers([("t", "yes")])))
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 3 0",
            "on_response_body 2 3 0",
            "get_buffer_bytes 0 one",
            "on_response_trailers 2 1",
            "get_buffer_bytes 0 one",
            "get_header_map_value 0 yes",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, &[], "one"))
        .forwards("", "");

    a_response_held_whole => Scenario::new(
            Guest::new()
                .on(C::ResponseHeaders, hold())
                .on(C::ResponseBody, [answer_body()])
                .on(C::Tick, resume(1)),
        )
        .settings(|settings| settings.allow_on_headers_stop_iteration = false)
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 3 0",
            "set_tick_period_milliseconds 0",
            "on_tick 1",
            "set_effective_context 0",
            "continue_stream 0",
            "set_effective_context 0",
            "set_tick_period_milliseconds 0",
            "on_response_body 2 2 1",
            "get_buffer_bytes 0 ok",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, "ok"))
        .forwards("", "");

    a_response_without_a_body => Scenario::new(Guest::new())
        .upstream(ResponseScript::new(204))
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 2 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(204, &[], ""))
        .forwards("", "");

    a_head_request => Scenario::new(Guest::new())
        .client(get("/").method("HEAD"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 3 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, ""))
        .forwards("", "");

    a_response_closed_by_the_filter => Scenario::new(
            Guest::new().on(C::ResponseHeaders, [Op::Close(1), Op::Return(PAUSE)]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 3 0",
            "close_stream 0",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(Got::Broken)
        .forwards("", "");

    pairs_that_are_not_in_the_layout => Scenario::new(
            Guest::new().on(C::ResponseHeaders, [
                Op::SetPairs(M::ResponseHeaders, vec![9, 0, 0, 0, 1, 2, 3]),
                Op::GetPairs(M::ResponseHeaders),
                Op::AddHeader(M::ResponseHeaders, ":status", "204"),
            ]),
        )
        .upstream(ResponseScript::new(200).header("content-length", "0"))
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 3 1",
            "set_header_map_pairs 0",
            "get_header_map_pairs 0 0",
            "add_header_map_value 0",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(204, &[], ""))
        .forwards("", "")
        .violates("it handed over header pairs that are not in the ABI's layout");
}
