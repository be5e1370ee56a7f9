//! How an exchange moves through a filter chain that holds one filter: Envoy's rules
//! (`source/common/http/filter_manager.cc` and `source/extensions/common/wasm/context.cc`), for a
//! chain of the Wasm filter and the router.
//!
//! Both directions follow the same rules and share the code; what differs is where a message goes
//! when it leaves, and what a local reply does.

use crate::{
    callback::{Callback, Invocation},
    exchange::{Event, Exchange, Iteration, Origin, Side},
    headers::{HeaderMap, Headers, Kind},
    host::Context,
    local_reply::{LocalReply, is_bodyless, is_grpc},
    settings::FailurePolicy,
    vm::{Called, Vm, length},
};

/// What the filter said to headers, a piece of body or trailers, in the terms of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Continue,
    /// Wait, and keep getting callbacks. The body is held: up to the limit, or (watermark) by
    /// back pressure.
    Pause {
        watermark: bool,
    },
    /// Wait, and get no callback before it resumes.
    PauseWhole {
        watermark: bool,
    },
    /// Wait; this piece of body is dropped.
    Drop,
}

/// What becomes of the stream when the VM is found dead.
const FAILED: (u32, &str) = (503, "wasm_fail_stream");

impl Vm {
    /// Begins an exchange: its context gets an id, and the guest is not told yet.
    pub(crate) fn open(&mut self, root: u32, connection: u64) -> u32 {
        let log_start = self.host().shared.logs.len();
        let host = self.host_mut();
        let id = host.allocate_context();
        host.contexts.insert(id, Context::Stream { root });
        host.exchanges
            .insert(id, Exchange::new(root, connection, log_start));
        id
    }

    /// Request headers arrive from the client.
    pub(crate) fn request_headers(&mut self, id: u32, headers: Headers, end: bool) {
        let Some(exchange) = self.live(id) else {
            return;
        };
        let map = HeaderMap::new(Kind::Request, headers);
        exchange.head_request = map.get(b":method") == Some(b"HEAD");
        // CONNECT has no path, and 200 would open a tunnel.
        exchange.grpc_request = map.get(b":path").is_some() && is_grpc(map.get(b"content-type"));
        self.create(id);
        self.headers(id, Side::Request, map, end);
    }

    /// Response headers arrive from the upstream.
    pub(crate) fn response_headers(&mut self, id: u32, headers: Headers, end: bool) {
        let Some(exchange) = self.live(id) else {
            return;
        };
        exchange.origin = Some(Origin::Upstream);
        let map = HeaderMap::new(Kind::Response, headers);
        self.headers(id, Side::Response, map, end);
    }

    /// The client has gone away.
    pub(crate) fn disconnect(&mut self, id: u32) {
        let Some(exchange) = self.live(id) else {
            return;
        };
        exchange.disconnected = true;
        self.abandon_upstream(id);
        self.destroy(id);
    }

    /// The upstream broke off, or could not be reached.
    pub(crate) fn upstream_reset(&mut self, id: u32, body: &str, detail: &'static str) {
        let Some(exchange) = self.live(id) else {
            return;
        };
        exchange.upstream_gone = true;
        self.local_reply(id, LocalReply::new(503, body), Origin::Host(detail));
    }

    /// The proxy has waited long enough for anything to happen on this stream.
    pub(crate) fn time_out(&mut self, id: u32) {
        let Some(exchange) = self.live(id) else {
            return;
        };
        let status = if exchange.request.complete { 504 } else { 408 };
        let reply = LocalReply::new(status, "stream timeout");
        self.local_reply(id, reply, Origin::Host("stream_idle_timeout"));
    }

    /// The filter closed the stream.
    pub(crate) fn reset(&mut self, id: u32) {
        if self.live(id).is_some() {
            self.abandon_upstream(id);
            self.emit(
                id,
                Event::Reset {
                    side: Side::Response,
                },
            );
            self.destroy(id);
        }
    }

    fn create(&mut self, id: u32) {
        let Some(exchange) = self.live(id) else {
            return;
        };
        if !exchange.created {
            exchange.created = true;
            let root = exchange.root;
            self.call(Invocation::new(Callback::ContextCreate, &[id, root]));
            self.settle();
        }
    }

    fn headers(&mut self, id: u32, side: Side, map: HeaderMap, end: bool) {
        let Some(exchange) = self.live(id) else {
            return;
        };
        let count = length(map.entries());
        let direction = exchange.side_mut(side);
        direction.headers = Some(map);
        direction.complete |= end;
        if side == Side::Response {
            exchange.response_known |= end;
        }
        let verdict = if exchange.is_deaf(side) {
            Verdict::Continue
        } else {
            exchange.side_mut(side).headers_open = true;
            let callback = match side {
                Side::Request => Callback::RequestHeaders,
                Side::Response => Callback::ResponseHeaders,
            };
            let verdict = self.consult(id, side, callback, count, end);
            let Some(verdict) = verdict else { return };
            verdict
        };
        let Some(exchange) = self.live(id) else {
            return;
        };
        let direction = exchange.side_mut(side);
        match verdict {
            Verdict::Continue => {
                direction.headers_open = false;
                direction.headers_passed = true;
                self.pass_headers(id, side, end);
            }
            Verdict::PauseWhole { watermark } => {
                direction.iteration = Iteration::PausedWhole;
                direction.watermark = watermark;
            }
            Verdict::Pause { .. } | Verdict::Drop => direction.iteration = Iteration::Paused,
        }
    }

    /// A piece of body arrives.
    pub(crate) fn data(&mut self, id: u32, side: Side, data: Vec<u8>, end: bool) {
        let Some(exchange) = self.live(id) else {
            return;
        };
        // Once a reply is on its way, nobody wants the rest of the request.
        if side == Side::Request && exchange.request_is_moot() {
            return;
        }
        exchange.side_mut(side).complete |= end;
        if side == Side::Response {
            exchange.response_known |= end;
        }
        self.body(id, side, data, end);
    }

    fn body(&mut self, id: u32, side: Side, data: Vec<u8>, end: bool) {
        let Some(exchange) = self.live(id) else {
            return;
        };
        if exchange.side(side).iteration == Iteration::PausedWhole {
            self.hold(id, side, data);
            return;
        }
        if exchange.is_deaf(side) {
            self.pass_data(id, side, data, end);
            return;
        }
        // From here on a local reply waits for the callback's end, as one does that the limit
        // causes: the guest sees the body that is too large once.
        exchange.in_callback = Some(side);
        let direction = exchange.side_mut(side);
        if direction.buffering {
            direction.chunk = Some(Vec::new());
            self.hold(id, side, data);
        } else {
            direction.chunk = Some(data);
        }
        let Some(exchange) = self.live(id) else {
            return;
        };
        let size = length(exchange.side(side).visible_body());
        let callback = match side {
            Side::Request => Callback::RequestBody,
            Side::Response => Callback::ResponseBody,
        };
        let Some(verdict) = self.consult(id, side, callback, size, end) else {
            return;
        };
        let Some(exchange) = self.live(id) else {
            return;
        };
        let direction = exchange.side_mut(side);
        let data = direction.chunk.take().unwrap_or_default();
        direction.buffering = verdict == Verdict::Pause { watermark: false };
        match verdict {
            Verdict::Continue if direction.iteration == Iteration::Paused => {
                self.hold(id, side, data);
                self.resume(id, side);
            }
            Verdict::Continue => self.pass_data(id, side, data, end),
            Verdict::Pause { watermark } | Verdict::PauseWhole { watermark } => {
                direction.iteration = Iteration::Paused;
                direction.watermark = watermark;
                self.hold(id, side, data);
            }
            Verdict::Drop => {
                direction.iteration = Iteration::Paused;
                if direction.complete && direction.trailers.is_none() {
                    direction.buffered.get_or_insert_default();
                }
            }
        }
    }

    /// Trailers arrive: the message is complete.
    pub(crate) fn trailers(&mut self, id: u32, side: Side, trailers: Headers) {
        let Some(exchange) = self.live(id) else {
            return;
        };
        if side == Side::Request && exchange.request_is_moot() {
            return;
        }
        let direction = exchange.side_mut(side);
        direction.trailers = Some(HeaderMap::new(Kind::Trailers, trailers));
        direction.complete = true;
        if side == Side::Response {
            exchange.response_known = true;
        }
        if exchange.side(side).iteration != Iteration::PausedWhole {
            self.trailers_callback(id, side);
        }
    }

    fn trailers_callback(&mut self, id: u32, side: Side) {
        let Some(exchange) = self.live(id) else {
            return;
        };
        if exchange.is_deaf(side) {
            self.pass_trailers(id, side);
            return;
        }
        let direction = exchange.side_mut(side);
        direction.trailers_open = true;
        let count = direction
            .trailers
            .as_ref()
            .map_or(0, |map| length(map.entries()));
        let callback = match side {
            Side::Request => Callback::RequestTrailers,
            Side::Response => Callback::ResponseTrailers,
        };
        let Some(verdict) = self.consult(id, side, callback, count, true) else {
            return;
        };
        let Some(exchange) = self.live(id) else {
            return;
        };
        let direction = exchange.side_mut(side);
        match verdict {
            Verdict::Continue => {
                direction.trailers_open = false;
                if direction.iteration == Iteration::Paused {
                    self.resume(id, side);
                } else {
                    self.pass_trailers(id, side);
                }
            }
            _ if direction.iteration == Iteration::Continue => {
                direction.iteration = Iteration::Paused;
            }
            _ => {}
        }
    }

    /// Calls the filter for headers, body or trailers and does what its host calls asked for.
    /// `None` if nothing moves on in this direction: a reply was sent or the stream is over.
    fn consult(
        &mut self,
        id: u32,
        side: Side,
        callback: Callback,
        size: u32,
        end: bool,
    ) -> Option<Verdict> {
        let was_dead = self.is_dead();
        let exchange = self.live(id)?;
        exchange.in_callback = Some(side);
        exchange.side_mut(side).told_end |= end;
        let called = self.call(Invocation::new(callback, &[id, size, u32::from(end)]));
        let stopped = self.host().stop_iteration;
        let settings = &self.host().shared.settings;
        let (allow_pause, failure) = (settings.allow_on_headers_stop_iteration, settings.failure);
        let verdict = match called {
            Called::Missing => Verdict::Continue,
            Called::Returned(raw) => verdict(callback, raw, stopped, allow_pause),
            // The stream over which the VM dies gets 503 even so.
            Called::Dead if was_dead && failure == FailurePolicy::Open => Verdict::Continue,
            Called::Dead => {
                self.fail(id);
                Verdict::PauseWhole { watermark: true }
            }
        };
        self.settle();
        let exchange = self.live(id)?;
        exchange.in_callback = None;
        if !exchange.aborted(side) {
            return Some(verdict);
        }
        exchange.side_mut(side).iteration = Iteration::Paused;
        if let Some((reply, origin)) = exchange.prepared.take() {
            self.encode_reply(id, reply, origin);
        }
        None
    }

    fn fail(&mut self, id: u32) {
        let Some(exchange) = self.live(id) else {
            return;
        };
        if !exchange.failure_replied {
            exchange.failure_replied = true;
            let (status, detail) = FAILED;
            self.local_reply(id, LocalReply::new(status, ""), Origin::Host(detail));
        }
    }

    /// Lets a paused direction go on.
    pub(crate) fn resume(&mut self, id: u32, side: Side) {
        let Some(exchange) = self.live(id) else {
            return;
        };
        let moot = match side {
            Side::Request => exchange.request_is_moot(),
            Side::Response => exchange.response.passed,
        };
        if moot {
            return;
        }
        let direction = exchange.side_mut(side);
        if direction.iteration == Iteration::Continue {
            let what = format!("it resumed a {side:?} that was not paused: undefined in Envoy");
            exchange.violations.push(what);
            return;
        }
        let whole = direction.iteration == Iteration::PausedWhole || direction.catching_up;
        direction.catching_up = whole;
        direction.iteration = Iteration::Continue;
        if !direction.headers_passed && direction.headers.is_some() {
            direction.headers_passed = true;
            let nothing_follows = direction.buffered.is_none() && direction.trailers.is_none();
            let end = direction.complete && nothing_follows;
            self.pass_headers(id, side, end);
        }
        let Some(exchange) = self.live(id) else {
            return;
        };
        let direction = exchange.side_mut(side);
        let trailers = direction.trailers.is_some();
        if let Some(held) = direction.buffered.take() {
            let end = direction.complete && !trailers;
            // A filter that paused before it saw the body sees it now, in one piece.
            if !whole {
                self.pass_data(id, side, held, end);
            } else if !direction.told_end {
                self.body(id, side, held, end);
            } else if !held.is_empty() {
                // It paused again in the body and let the trailers pass: they come to it a second
                // time then, and the body goes nowhere.
                let what = "Envoy loses the body of a stream that paused at its headers without \
                            allow_on_headers_stop_iteration, then in its body, then went on at \
                            its trailers";
                direction.buffered = Some(held);
                exchange.violations.push(what.to_owned());
            }
        }
        if trailers && self.live(id).is_some() {
            if whole {
                self.trailers_callback(id, side);
            } else {
                self.pass_trailers(id, side);
            }
        }
        if let Some(exchange) = self.live(id) {
            exchange.side_mut(side).catching_up = false;
        }
    }

    /// Adds to what is held back, and replies in the filter's stead where that gets too much.
    fn hold(&mut self, id: u32, side: Side, data: Vec<u8>) {
        let limit = self.host().shared.settings.buffer_limit;
        let Some(exchange) = self.live(id) else {
            return;
        };
        let direction = exchange.side_mut(side);
        let watermark = direction.watermark;
        let held = direction.buffered.get_or_insert_default();
        let before = held.len();
        held.extend_from_slice(&data);
        if watermark || held.len() <= limit || before > limit {
            return;
        }
        let (status, text, detail) = match side {
            Side::Request => (413, "Payload Too Large", "request_payload_too_large"),
            Side::Response => (500, "Internal Server Error", "response_payload_too_large"),
        };
        self.local_reply(id, LocalReply::new(status, text), Origin::Host(detail));
    }

    /// The filter's own reply.
    pub(crate) fn filter_reply(&mut self, id: u32, reply: LocalReply) {
        self.local_reply(id, reply, Origin::Filter);
    }

    fn local_reply(&mut self, id: u32, reply: LocalReply, origin: Origin) {
        let Some(exchange) = self.live(id) else {
            return;
        };
        match exchange.in_callback {
            Some(Side::Request) => exchange.request_aborted = true,
            Some(Side::Response) => exchange.response_aborted = true,
            None => {}
        }
        if exchange.response.headers.is_none() {
            // The first one wins: a filter that replies twice, or replies and then dies.
            if exchange.in_callback == Some(Side::Request) {
                exchange.prepared.get_or_insert((reply, origin));
            } else {
                self.encode_reply(id, reply, origin);
            }
        } else if exchange.response_begun {
            self.reset(id);
        } else {
            // The response has begun to pass the filters: they are not bothered with another.
            exchange.origin = Some(origin);
            exchange.details.clone_from(&reply.details);
            let (map, body) = reply.shape(exchange.grpc_request, exchange.head_request);
            exchange.response.buffered = None;
            exchange.response.headers = Some(map);
            exchange.response_known = true;
            self.pass_headers(id, Side::Response, body.is_none());
            if let Some(body) = body {
                self.pass_data(id, Side::Response, body, true);
            }
        }
    }

    /// Sends a reply through the filters, as if the upstream had given it.
    fn encode_reply(&mut self, id: u32, reply: LocalReply, origin: Origin) {
        let Some(exchange) = self.live(id) else {
            return;
        };
        exchange.origin = Some(origin);
        exchange.details.clone_from(&reply.details);
        exchange.response_known = true;
        let (map, body) = reply.shape(exchange.grpc_request, exchange.head_request);
        self.headers(id, Side::Response, map, body.is_none());
        if let Some(body) = body {
            self.data(id, Side::Response, body, true);
        }
    }

    fn pass_headers(&mut self, id: u32, side: Side, end: bool) {
        let codec = self.host().shared.settings.upstream_codec;
        let Some(exchange) = self.live(id) else {
            return;
        };
        let Some(map) = &exchange.side(side).headers else {
            return;
        };
        if let Some((reply, detail)) = unsendable(side, map, codec) {
            self.local_reply(id, reply, Origin::Host(detail));
            return;
        }
        let headers = map.entries().clone();
        let bodyless = map.get(b":status").is_some_and(is_bodyless);
        let end = end || (side == Side::Response && (exchange.head_request || bodyless));
        match side {
            Side::Request => exchange.request_sent = true,
            Side::Response => exchange.response_begun = true,
        }
        self.emit(id, Event::Headers { side, headers, end });
        self.passed(id, side, end);
    }

    fn pass_data(&mut self, id: u32, side: Side, data: Vec<u8>, end: bool) {
        if self.live(id).is_some() {
            self.emit(id, Event::Data { side, data, end });
            self.passed(id, side, end);
        }
    }

    fn pass_trailers(&mut self, id: u32, side: Side) {
        let Some(exchange) = self.live(id) else {
            return;
        };
        let Some(map) = &exchange.side(side).trailers else {
            return;
        };
        let trailers = map.entries().clone();
        self.emit(id, Event::Trailers { side, trailers });
        self.passed(id, side, true);
    }

    /// Something has left; when it was the response's end, the exchange is over.
    fn passed(&mut self, id: u32, side: Side, end: bool) {
        let Some(exchange) = self.live(id).filter(|_| end) else {
            return;
        };
        exchange.side_mut(side).passed = true;
        if side == Side::Response {
            let finished = exchange.origin == Some(Origin::Upstream) && exchange.request.passed;
            exchange.upstream_gone |= finished;
            self.abandon_upstream(id);
            self.destroy(id);
        }
    }

    /// Lets go of an upstream that still takes the request or owes its response.
    fn abandon_upstream(&mut self, id: u32) {
        let Some(exchange) = self.live(id) else {
            return;
        };
        if exchange.request_sent && !exchange.upstream_gone {
            exchange.upstream_gone = true;
            self.emit(
                id,
                Event::Reset {
                    side: Side::Request,
                },
            );
        }
    }

    /// Something leaves the chain.
    fn emit(&mut self, id: u32, event: Event) {
        let host = self.host_mut();
        if let Some(exchange) = host.exchanges.get_mut(&id) {
            exchange.events.push_back(event);
            host.fresh.insert(id);
        }
    }

    /// Ends an exchange: the guest logs it, then forgets it.
    fn destroy(&mut self, id: u32) {
        self.create(id);
        let Some(exchange) = self.live(id) else {
            return;
        };
        exchange.destroyed = true;
        exchange.logging = true;
        self.call(Invocation::new(Callback::Log, &[id]));
        self.settle();
        if let Some(exchange) = self.host_mut().exchanges.get_mut(&id) {
            exchange.logging = false;
        }
        for callback in [Callback::Done, Callback::Delete] {
            self.call(Invocation::new(callback, &[id]));
            self.settle();
        }
        self.host_mut().contexts.remove(&id);
    }

    /// The exchange, if it is not over.
    fn live(&mut self, id: u32) -> Option<&mut Exchange> {
        self.host_mut()
            .exchanges
            .get_mut(&id)
            .filter(|exchange| !exchange.destroyed)
    }
}

impl Exchange {
    /// Whether the guest is not asked in this direction.
    fn is_deaf(&self, side: Side) -> bool {
        side == Side::Response && (!self.created || self.failure_replied)
    }

    /// Whether what is left of the request does not matter any more.
    fn request_is_moot(&self) -> bool {
        self.request_aborted || self.response_known
    }
}

/// What a callback's return value means. `stopped`: it asked for a local reply, so that nothing
/// passes whatever it returned.
fn verdict(callback: Callback, raw: u32, stopped: bool, allow_pause: bool) -> Verdict {
    match (callback, raw) {
        (Callback::RequestHeaders | Callback::ResponseHeaders, _) if stopped || raw > 4 => {
            Verdict::PauseWhole { watermark: true }
        }
        (Callback::RequestHeaders | Callback::ResponseHeaders, 1) if allow_pause => {
            Verdict::Pause { watermark: false }
        }
        (Callback::RequestHeaders | Callback::ResponseHeaders, 1 | 4) => {
            Verdict::PauseWhole { watermark: true }
        }
        (Callback::RequestHeaders | Callback::ResponseHeaders, 3) => {
            Verdict::PauseWhole { watermark: false }
        }
        (Callback::RequestBody | Callback::ResponseBody, _) if stopped || raw > 2 => Verdict::Drop,
        (Callback::RequestBody | Callback::ResponseBody, 1 | 2) => Verdict::Pause {
            watermark: raw == 2,
        },
        (Callback::RequestTrailers | Callback::ResponseTrailers, _) if stopped || raw > 0 => {
            Verdict::Pause { watermark: false }
        }
        _ => Verdict::Continue,
    }
}

/// What Envoy replies instead of sending these headers on: the router finds no route without a
/// path, and its codec for the upstream looks at the values; the client's codec wants a status.
fn unsendable(side: Side, map: &HeaderMap, codec: bool) -> Option<(LocalReply, &'static str)> {
    let missing = |name: &str| map.get(name.as_bytes()).is_none();
    let broken = |status: u32, name: &str, detail: &'static str| {
        Some((
            LocalReply::new(status, &format!("missing required header: {name}")),
            detail,
        ))
    };
    if side == Side::Response {
        let detail = "filter_removed_required_response_headers";
        return missing(":status")
            .then(|| broken(502, ":status", detail))
            .flatten();
    }
    if missing(":method") {
        return broken(503, ":method", "filter_removed_required_request_headers");
    }
    if missing(":path") && map.get(b":method") != Some(b"CONNECT") {
        return Some((LocalReply::new(404, ""), "route_not_found"));
    }
    let split = |value: &[u8]| value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
    let mut entries = map.entries().iter().filter(|_| codec);
    let (name, _) = entries.find(|(_, value)| split(value))?;
    let text = format!(
        "invalid header value for: {}",
        String::from_utf8_lossy(name)
    );
    Some((
        LocalReply::new(503, &text),
        "filter_removed_required_request_headers",
    ))
}
