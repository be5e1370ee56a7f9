//! Replies of the filter and of the host in Envoy's stead, from wherever they can come.

use portcullis_host::{BufferType as B, Callback as C, MapType as M, ResponseScript, headers};

use crate::{
    guest::{Guest, Number, Op, PAUSE, reply},
    scenario::{Got, OK, Scenario, get, got, post, scenarios},
};

const NO: &[(&str, &str)] = &[("content-length", "2"), ("content-type", "text/plain")];

/// Marks every response that it sees.
fn marking() -> Guest {
    Guest::new().on(
        C::ResponseHeaders,
        [
            Op::GetHeader(M::ResponseHeaders, ":status"),
            Op::GetHeader(M::ResponseHeaders, "content-type"),
            Op::GetHeader(M::ResponseHeaders, "content-length"),
            Op::AddHeader(M::ResponseHeaders, "x-mark", "1"),
        ],
    )
}

fn marked(headers: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    [headers, &[("x-mark", "1")]].concat()
}

fn denied() -> Got {
    got(403, &marked(NO), "no")
}

/// A piece of body of this length.
fn long(length: usize) -> &'static str {
    "x".repeat(length).leak()
}

fn too_large() -> Got {
    let text = &[("content-length", "17"), ("content-type", "text/plain")];
    got(413, &marked(text), "Payload Too Large")
}

scenarios! {
    a_reply_to_headers_passes_the_response_callbacks => Scenario::new(
            marking().on(C::RequestHeaders, [reply(403, "no"), Op::Return(PAUSE)]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "send_local_response 0",
            "on_response_headers 2 3 0",
            "get_header_map_value 0 403",
            "get_header_map_value 0 text/plain",
            "get_header_map_value 0 2",
            "add_header_map_value 0",
            "on_response_body 2 2 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(denied());

    a_reply_counts_even_if_the_filter_says_continue => Scenario::new(
            marking().on(C::RequestHeaders, [reply(403, "no")]),
        )
        .client(post(&["one"]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "send_local_response 0",
            "on_response_headers 2 3 0",
            "get_header_map_value 0 403",
            "get_header_map_value 0 text/plain",
            "get_header_map_value 0 2",
            "add_header_map_value 0",
            "on_response_body 2 2 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(denied());

    of_two_replies_the_first_one_counts => Scenario::new(
            marking().on(C::RequestHeaders, [reply(403, "no"), reply(404, "gone"), Op::Continue(0)]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "send_local_response 0",
            "send_local_response 0",
            "continue_stream 0",
            "on_response_headers 2 3 0",
            "get_header_map_value 0 403",
            "get_header_map_value 0 text/plain",
            "get_header_map_value 0 2",
            "add_header_map_value 0",
            "on_response_body 2 2 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(denied());

    a_reply_to_a_body => Scenario::new(
            marking().on(C::RequestBody, [Op::IfLast(0, vec![Op::Return(PAUSE)]), reply(403, "no")]),
        )
        .client(post(&["one"]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_request_body 2 3 0",
            "on_request_body 2 3 1",
            "send_local_response 0",
            "on_response_headers 2 3 0",
            "get_header_map_value 0 403",
            "get_header_map_value 0 text/plain",
            "get_header_map_value 0 2",
            "add_header_map_value 0",
            "on_response_body 2 2 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(denied());

    a_reply_to_a_body_whose_headers_have_passed => Scenario::new(
            marking().on(C::RequestBody, [reply(403, "no")]),
        )
        .client(post(&["one"]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_request_body 2 3 0",
            "send_local_response 0",
            "on_response_headers 2 3 0",
            "get_header_map_value 0 403",
            "get_header_map_value 0 text/plain",
            "get_header_map_value 0 2",
            "add_header_map_value 0",
            "on_response_body 2 2 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(denied());

    a_reply_to_trailers => Scenario::new(
            marking()
                .on(C::RequestBody, [Op::Return(PAUSE)])
                .on(C::RequestTrailers, [reply(403, "no"), Op::Return(PAUSE)]),
        )
        .client(post(&["one"]).trailer("t", "evil"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_request_body 2 3 0",
            "on_request_trailers 2 1",
            "send_local_response 0",
            "on_response_headers 2 3 0",
            "get_header_map_value 0 403",
            "get_header_map_value 0 text/plain",
            "get_header_map_value 0 2",
            "add_header_map_value 0",
            "on_response_body 2 2 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(denied());

    a_reply_in_place_of_response_headers => Scenario::new(
            marking().on(C::ResponseHeaders, [Op::IfLast(0, vec![reply(403, "no"), Op::Return(PAUSE)])]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 3 0",
            "get_header_map_value 0 200",
            "get_header_map_value 1 ",
            "get_header_map_value 0 2",
            "add_header_map_value 0",
            "send_local_response 0",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(403, NO, "no"))
        .forwards("", "");

    a_reply_in_place_of_a_paused_response => Scenario::new(
            Guest::new()
                .on(C::ResponseHeaders, [Op::Return(PAUSE)])
                .on(C::ResponseBody, [Op::IfLast(1, vec![reply(403, "no")]), Op::Return(PAUSE)]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 2 1",
            "send_local_response 0",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(403, NO, "no"))
        .forwards("", "");

    a_reply_when_the_response_has_begun => Scenario::new(
            Guest::new().on(C::ResponseBody, [Op::IfLast(1, vec![reply(403, "no")]), Op::Return(PAUSE)]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 2 1",
            "send_local_response 0",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(Got::Broken)
        .forwards("", "");

    a_reply_from_a_tick => Scenario::new(
            marking()
                .on(C::RequestHeaders, [Op::SaveContext, Op::Tick(100), Op::Return(PAUSE)])
                .on(C::Tick, [Op::Act(Number::SavedContext), reply(403, "no"), Op::Tick(0)]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "set_tick_period_milliseconds 0",
            "on_tick 1",
            "set_effective_context 0",
            "send_local_response 0",
            "set_tick_period_milliseconds 0",
            "on_response_headers 2 3 0",
            "get_header_map_value 0 403",
            "get_header_map_value 0 text/plain",
            "get_header_map_value 0 2",
            "add_header_map_value 0",
            "on_response_body 2 2 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(denied());

    a_reply_from_a_root_context_goes_nowhere => Scenario::new(
            Guest::new()
                .on(C::RequestHeaders, [Op::Tick(1000)])
                .on(C::Tick, [reply(403, "no"), Op::Continue(0), Op::Close(0), Op::Tick(0)]),
        )
        .client(get("/"))
        .client(get("/"))
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
            "on_context_create 3 1",
            "on_request_headers 3 6 1",
            "set_tick_period_milliseconds 0",
            "on_response_headers 3 3 0",
            "on_response_body 3 2 0",
            "on_response_body 3 0 1",
            "on_log 3",
            "on_done 3",
            "on_delete 3",
            "on_tick 1",
            "send_local_response 0",
            "continue_stream 0",
            "close_stream 0",
            "set_tick_period_milliseconds 0",
        ])
        .gets(got(200, OK, "ok"))
        .gets(got(200, OK, "ok"))
        .forwards("", "")
        .forwards("", "");

    a_reply_while_the_upstream_works => Scenario::new(
            marking()
                .on(C::RequestHeaders, [Op::SaveContext, Op::AddHeader(M::RequestHeaders, "x-seen", "s")])
                .on(C::RequestBody, [Op::IfLast(0, vec![Op::Return(0)]), reply(403, "no")]),
        )
        .client(post(&["one"]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "add_header_map_value 0",
            "on_request_body 2 3 0",
            "on_request_body 2 0 1",
            "send_local_response 0",
            "on_response_headers 2 3 0",
            "get_header_map_value 0 403",
            "get_header_map_value 0 text/plain",
            "get_header_map_value 0 2",
            "add_header_map_value 0",
            "on_response_body 2 2 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(denied());

    a_reply_with_headers_of_its_own => Scenario::new(
            marking().on(C::RequestHeaders, [Op::Reply {
                status: 401,
                headers: headers([
                    ("Content-Type", "application/json"), ("www-authenticate", "Bearer"),
                    ("x-a", "1"), ("x-a", "2"), ("content-length", "99"),
                ]),
                body: "{}",
                grpc: -1,
            }]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "send_local_response 0",
            "on_response_headers 2 6 0",
            "get_header_map_value 0 401",
            "get_header_map_value 0 application/json",
            "get_header_map_value 0 2",
            "add_header_map_value 0",
            "on_response_body 2 2 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(401, &marked(&[
            ("content-length", "2"), ("content-type", "application/json"),
            ("www-authenticate", "Bearer"), ("x-a", "1"), ("x-a", "2"),
        ]), "{}"));

    a_reply_without_a_body => Scenario::new(
            marking().on(C::RequestHeaders, [Op::Reply {
                status: 401,
                headers: headers([("content-type", "application/json"), ("content-length", "9")]),
                body: "",
                grpc: -1,
            }]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "send_local_response 0",
            "on_response_headers 2 1 1",
            "get_header_map_value 0 401",
            "get_header_map_value 1 ",
            "get_header_map_value 1 ",
            "add_header_map_value 0",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(401, &marked(&[]), ""));

    a_reply_to_head => Scenario::new(
            marking().on(C::RequestHeaders, [reply(403, "no")]),
        )
        .client(get("/").method("HEAD"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "send_local_response 0",
            "on_response_headers 2 3 1",
            "get_header_map_value 0 403",
            "get_header_map_value 0 text/plain",
            "get_header_map_value 0 2",
            "add_header_map_value 0",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(denied_without_body());

    a_reply_to_grpc => Scenario::new(
            marking().on(C::RequestHeaders, [reply(403, "no, 100%")]),
        )
        .client(get("/").method("POST").header("content-type", "application/grpc"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 7 1",
            "send_local_response 0",
            "on_response_headers 2 4 1",
            "get_header_map_value 0 200",
            "get_header_map_value 0 application/grpc",
            "get_header_map_value 1 ",
            "add_header_map_value 0",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, &marked(&[
            ("content-type", "application/grpc"), ("grpc-message", "no, 100%25"), ("grpc-status", "7"),
        ]), ""));

    a_reply_to_grpc_with_a_code_of_its_own => Scenario::new(
            marking().on(C::RequestHeaders, [Op::Reply {
                status: 429,
                headers: headers([("retry-after", "1")]),
                body: "slow",
                grpc: 8,
            }]),
        )
        .client(get("/").method("POST").header("content-type", "application/grpc"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 7 1",
            "send_local_response 0",
            "on_response_headers 2 5 1",
            "get_header_map_value 0 200",
            "get_header_map_value 0 application/grpc",
            "get_header_map_value 1 ",
            "add_header_map_value 0",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, &marked(&[("content-type", "application/grpc"), ("grpc-message", "slow"), ("grpc-status", "8"), ("retry-after", "1")]), ""));

    a_reply_to_grpc_with_a_code_that_is_none => Scenario::new(
            marking().on(C::RequestHeaders, [Op::Reply {
                status: 429,
                headers: Vec::new(),
                body: "slow",
                grpc: 17,
            }]),
        )
        .client(get("/").method("POST").header("content-type", "application/grpc"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 7 1",
            "send_local_response 0",
            "on_response_headers 2 4 1",
            "get_header_map_value 0 200",
            "get_header_map_value 0 application/grpc",
            "get_header_map_value 1 ",
            "add_header_map_value 0",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, &marked(&[("content-type", "application/grpc"), ("grpc-message", "slow"), ("grpc-status", "14")]), ""));

    a_reply_that_is_grpc_already => Scenario::new(
            marking().on(C::RequestHeaders, [Op::Reply {
                status: 200,
                headers: headers([("content-type", "application/grpc"), ("grpc-status", "16"), ("grpc-message", "who? 100%25~")]),
                body: "",
                grpc: 7,
            }]),
        )
        .client(get("/").method("POST").header("content-type", "application/grpc+proto"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 7 1",
            "send_local_response 0",
            "on_response_headers 2 4 1",
            "get_header_map_value 0 200",
            "get_header_map_value 0 application/grpc",
            "get_header_map_value 1 ",
            "add_header_map_value 0",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, &marked(&[("content-type", "application/grpc"), ("grpc-message", "who? 100%25~"), ("grpc-status", "16")]), ""));

    a_code_means_nothing_to_others => Scenario::new(
            marking().on(C::RequestHeaders, [Op::Reply {
                status: 429,
                headers: Vec::new(),
                body: "slow",
                grpc: 8,
            }]),
        )
        .client(get("/").method("POST").header("content-type", "application/grpcs"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 7 1",
            "send_local_response 0",
            "on_response_headers 2 3 0",
            "get_header_map_value 0 429",
            "get_header_map_value 0 text/plain",
            "get_header_map_value 0 4",
            "add_header_map_value 0",
            "on_response_body 2 4 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(429, &marked(&[("content-length", "4"), ("content-type", "text/plain")]), "slow"));

    a_reply_to_grpc_web_is_left_as_it_is => Scenario::new(
            marking().on(C::RequestHeaders, [Op::Reply {
                status: 200,
                headers: headers([("content-type", "application/grpc-web")]),
                body: "frame",
                grpc: 16,
            }]),
        )
        .client(get("/").method("POST").header("content-type", "application/grpc-web"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 7 1",
            "send_local_response 0",
            "on_response_headers 2 3 0",
            "get_header_map_value 0 200",
            "get_header_map_value 0 application/grpc-web",
            "get_header_map_value 0 5",
            "add_header_map_value 0",
            "on_response_body 2 5 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, &marked(&[("content-length", "5"), ("content-type", "application/grpc-web")]), "frame"));

    a_reply_that_splits_the_response => Scenario::new(
            Guest::new().on(C::RequestHeaders, [Op::Reply {
                status: 403,
                headers: headers([("x-echo", "a\r\nset-cookie: z=1")]),
                body: "",
                grpc: -1,
            }]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "send_local_response 0",
            "on_response_headers 2 2 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(403, &[("set-cookie", "z=1"), ("x-echo", "a")], ""));

    a_reply_held_in_the_response_callback => Scenario::new(
            Guest::new()
                .on(C::RequestHeaders, [reply(403, "no")])
                .on(C::ResponseHeaders, [Op::Return(PAUSE)])
                .on(C::ResponseBody, [
                    Op::GetBody(B::HttpResponseBody, 0, 100),
                    Op::AddHeader(M::ResponseHeaders, "x-late", "1"),
                ]),
        )
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "send_local_response 0",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 1",
            "get_buffer_bytes 0 no",
            "add_header_map_value 0",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(403, &[("content-length", "2"), ("content-type", "text/plain"), ("x-late", "1")], "no"));

    a_body_above_the_limit_is_413 => Scenario::new(
            marking().on(C::RequestBody, [Op::Return(PAUSE)]),
        )
        .settings(|settings| settings.buffer_limit = 1000)
        .client(post(&[long(600), long(600)]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_request_body 2 600 0",
            "on_request_body 2 1200 0",
            "on_response_headers 2 3 0",
            "get_header_map_value 0 413",
            "get_header_map_value 0 text/plain",
            "get_header_map_value 0 17",
            "add_header_map_value 0",
            "on_response_body 2 17 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(too_large());

    a_body_above_the_limit_with_paused_headers => Scenario::new(
            marking()
                .on(C::RequestHeaders, [Op::Return(PAUSE)])
                .on(C::RequestBody, [Op::Return(PAUSE)]),
        )
        .settings(|settings| settings.buffer_limit = 1000)
        .client(post(&[long(600), long(600)]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_request_body 2 600 0",
            "on_request_body 2 1200 0",
            "on_response_headers 2 3 0",
            "get_header_map_value 0 413",
            "get_header_map_value 0 text/plain",
            "get_header_map_value 0 17",
            "add_header_map_value 0",
            "on_response_body 2 17 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(too_large());

    the_hosts_413_comes_before_the_filters_own_reply => Scenario::new(
            marking()
                .on(C::RequestHeaders, [Op::Return(PAUSE)])
                .on(C::RequestBody, [Op::Nth(2, vec![reply(403, "no")]), Op::Return(PAUSE)]),
        )
        .settings(|settings| settings.buffer_limit = 1000)
        .client(post(&[long(600), long(600)]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_request_body 2 600 0",
            "on_request_body 2 1200 0",
            "send_local_response 0",
            "on_response_headers 2 3 0",
            "get_header_map_value 0 413",
            "get_header_map_value 0 text/plain",
            "get_header_map_value 0 17",
            "add_header_map_value 0",
            "on_response_body 2 17 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(too_large());

    a_large_body_that_is_not_held_passes => Scenario::new(Guest::new())
        .settings(|settings| settings.buffer_limit = 1000)
        .client(post(&[long(600), long(600)]))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 0",
            "on_request_body 2 600 0",
            "on_request_body 2 600 0",
            "on_request_body 2 0 1",
            "on_response_headers 2 3 0",
            "on_response_body 2 2 0",
            "on_response_body 2 0 1",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(200, OK, "ok"))
        .forwards("", long(1200));

    a_response_above_the_limit_is_500 => Scenario::new(
            Guest::new()
                .on(C::ResponseHeaders, [Op::Return(PAUSE)])
                .on(C::ResponseBody, [Op::Return(PAUSE)]),
        )
        .settings(|settings| settings.buffer_limit = 1000)
        .upstream(ResponseScript::new(200).header("content-length", "2000").piece(long(2000)))
        .client(get("/"))
        .logs(&[
            "on_context_create 2 1",
            "on_request_headers 2 6 1",
            "on_response_headers 2 3 0",
            "on_response_body 2 2000 0",
            "on_log 2",
            "on_done 2",
            "on_delete 2",
        ])
        .gets(got(
            500,
            &[("content-length", "21"), ("content-type", "text/plain")],
            "Internal Server Error",
        ))
        .forwards("", "");
}

fn denied_without_body() -> Got {
    got(403, &marked(NO), "")
}
