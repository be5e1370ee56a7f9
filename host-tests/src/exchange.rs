//! One HTTP exchange as the proxy sees it: what has arrived, what is held, what the filter may
//! look at now, and what has left. The rules by which it moves are in [`crate::filter_chain`].

use std::collections::{BTreeMap, VecDeque};

use crate::{
    abi::MapType,
    call::Calls,
    callback::Callback,
    headers::{HeaderMap, Headers},
    local_reply::LocalReply,
};

/// One of the two directions of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// From the client to the upstream.
    Request,
    /// From the upstream to the client.
    Response,
}

/// Something that leaves the filter chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Headers; `end` if nothing follows.
    Headers {
        /// To the upstream (`Request`) or to the client (`Response`).
        side: Side,
        /// The headers, pseudo headers first.
        headers: Headers,
        /// Whether the message is complete.
        end: bool,
    },
    /// A piece of the body.
    Data {
        /// Which direction.
        side: Side,
        /// The bytes; may be none when `end` is set.
        data: Vec<u8>,
        /// Whether the message is complete.
        end: bool,
    },
    /// Trailers; the message is complete.
    Trailers {
        /// Which direction.
        side: Side,
        /// The trailers.
        trailers: Headers,
    },
    /// The message in this direction breaks off.
    Reset {
        /// Which direction.
        side: Side,
    },
}

impl Event {
    /// The direction of the message that it is a piece of.
    #[must_use]
    pub const fn side(&self) -> Side {
        match self {
            Self::Headers { side, .. }
            | Self::Data { side, .. }
            | Self::Trailers { side, .. }
            | Self::Reset { side } => *side,
        }
    }
}

/// Who wrote a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The upstream.
    Upstream,
    /// The filter, by `proxy_send_local_response`.
    Filter,
    /// The host, in place of Envoy; the word is Envoy's response code detail.
    Host(&'static str),
}

/// How the filter stands to the traffic of one direction (Envoy's `IterationState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Iteration {
    /// Everything passes.
    Continue,
    /// It paused; it still gets callbacks for what arrives.
    Paused,
    /// It paused at the headers and gets no callback before it resumes.
    PausedWhole,
}

/// The state of one direction.
#[derive(Debug)]
pub(crate) struct Direction {
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) trailers: Option<HeaderMap>,
    /// Whether the guest can reach the maps: in their own callback, and from then on for as long
    /// as it did not let them pass.
    pub(crate) headers_open: bool,
    pub(crate) trailers_open: bool,
    /// The bytes of the callback that runs, where they are not in `buffered`.
    pub(crate) chunk: Option<Vec<u8>>,
    /// Bytes held back.
    pub(crate) buffered: Option<Vec<u8>>,
    /// The guest paused in the last body callback, so it is shown all that is buffered.
    pub(crate) buffering: bool,
    /// The buffer is bounded by back pressure and not by a 413.
    pub(crate) watermark: bool,
    pub(crate) iteration: Iteration,
    pub(crate) headers_passed: bool,
    /// The guest is being shown what it missed while it paused whole.
    pub(crate) catching_up: bool,
    /// The guest was told of the message's end.
    pub(crate) told_end: bool,
    /// The last byte (and the trailers, if there are any) has arrived.
    pub(crate) complete: bool,
    /// The end has left.
    pub(crate) passed: bool,
}

impl Direction {
    const fn new() -> Self {
        Self {
            headers: None,
            trailers: None,
            headers_open: false,
            trailers_open: false,
            chunk: None,
            buffered: None,
            buffering: false,
            watermark: false,
            iteration: Iteration::Continue,
            headers_passed: false,
            catching_up: false,
            told_end: false,
            complete: false,
            passed: false,
        }
    }

    /// The body that the guest can see now.
    pub(crate) fn visible_body(&self) -> &[u8] {
        let body = if self.buffering {
            &self.buffered
        } else {
            &self.chunk
        };
        body.as_deref().unwrap_or_default()
    }

    /// The body that the guest can change now; `None` if there is none.
    pub(crate) fn visible_body_mut(&mut self) -> Option<&mut Vec<u8>> {
        if self.buffering {
            self.buffered.as_mut()
        } else {
            self.chunk.as_mut()
        }
    }
}

/// One exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) root: u32,
    pub(crate) connection: u64,
    /// Attributes that the host gives (`source.address`, ...), by their path.
    pub(crate) properties: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Attributes that guests set.
    pub(crate) filter_state: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) request: Direction,
    pub(crate) response: Direction,
    /// The direction whose callback runs, until the chain has dealt with its verdict.
    pub(crate) in_callback: Option<Side>,
    /// A local reply came from within a callback of this direction.
    pub(crate) request_aborted: bool,
    pub(crate) response_aborted: bool,
    /// A local reply that waits for the running callback's end.
    pub(crate) prepared: Option<(LocalReply, Origin)>,
    /// Request headers have left, so there is an upstream.
    pub(crate) request_sent: bool,
    /// The upstream has done its part, or was let go.
    pub(crate) upstream_gone: bool,
    /// Response headers have left.
    pub(crate) response_begun: bool,
    /// The whole response has entered the chain.
    pub(crate) response_known: bool,
    /// The 503 for a dead VM was sent; the guest hears nothing of it.
    pub(crate) failure_replied: bool,
    /// The guest was told of this context, or would have been if its VM lived.
    pub(crate) created: bool,
    /// `proxy_on_log` runs: all headers can be seen, none changed.
    pub(crate) logging: bool,
    /// Over: nothing moves any more.
    pub(crate) destroyed: bool,
    /// The client went away.
    pub(crate) disconnected: bool,
    pub(crate) head_request: bool,
    pub(crate) grpc_request: bool,
    pub(crate) origin: Option<Origin>,
    /// What the filter said of its reply.
    pub(crate) details: Vec<u8>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) calls: Calls,
    pub(crate) fuel: BTreeMap<Callback, u64>,
    pub(crate) violations: Vec<String>,
    /// Position in the log when it began.
    pub(crate) log_start: usize,
}

impl Exchange {
    pub(crate) fn new(root: u32, connection: u64, log_start: usize) -> Self {
        Self {
            root,
            connection,
            properties: BTreeMap::new(),
            filter_state: BTreeMap::new(),
            request: Direction::new(),
            response: Direction::new(),
            in_callback: None,
            request_aborted: false,
            response_aborted: false,
            prepared: None,
            request_sent: false,
            upstream_gone: false,
            response_begun: false,
            response_known: false,
            failure_replied: false,
            created: false,
            logging: false,
            destroyed: false,
            disconnected: false,
            head_request: false,
            grpc_request: false,
            origin: None,
            details: Vec::new(),
            events: VecDeque::new(),
            calls: Calls::default(),
            fuel: BTreeMap::new(),
            violations: Vec::new(),
            log_start,
        }
    }

    pub(crate) fn side(&self, side: Side) -> &Direction {
        match side {
            Side::Request => &self.request,
            Side::Response => &self.response,
        }
    }

    pub(crate) fn side_mut(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        }
    }

    pub(crate) fn aborted(&self, side: Side) -> bool {
        match side {
            Side::Request => self.request_aborted,
            Side::Response => self.response_aborted,
        }
    }
}

impl Exchange {
    /// The map that the guest can read now.
    pub(crate) fn visible_map(&self, kind: MapType) -> Option<&HeaderMap> {
        let (direction, trailers) = self.locate(kind)?;
        let (map, open) = if trailers {
            (&direction.trailers, direction.trailers_open)
        } else {
            (&direction.headers, direction.headers_open)
        };
        // Envoy's access log knows all maps but the request's trailers.
        let logged = self.logging && kind != MapType::RequestTrailers;
        map.as_ref().filter(|_| open || logged)
    }

    /// The map that the guest can change now.
    pub(crate) fn visible_map_mut(&mut self, map: MapType) -> Option<&mut HeaderMap> {
        let side = match map {
            MapType::RequestHeaders | MapType::RequestTrailers => Side::Request,
            MapType::ResponseHeaders | MapType::ResponseTrailers => Side::Response,
            _ => return None,
        };
        let direction = self.side_mut(side);
        let (map, open) = if matches!(map, MapType::RequestTrailers | MapType::ResponseTrailers) {
            (&mut direction.trailers, direction.trailers_open)
        } else {
            (&mut direction.headers, direction.headers_open)
        };
        map.as_mut().filter(|_| open)
    }

    fn locate(&self, map: MapType) -> Option<(&Direction, bool)> {
        Some(match map {
            MapType::RequestHeaders => (&self.request, false),
            MapType::RequestTrailers => (&self.request, true),
            MapType::ResponseHeaders => (&self.response, false),
            MapType::ResponseTrailers => (&self.response, true),
            _ => return None,
        })
    }
}
