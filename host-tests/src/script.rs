//! Requests and responses as a test writes them, and what came of them.

use std::collections::BTreeMap;

use crate::{
    call::Calls,
    callback::Callback,
    error::TrapReport,
    exchange::{Event, Exchange, Origin, Side},
    headers::{Headers, header, headers},
    log::LogLine,
};

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestScript {
    /// Headers, the pseudo headers among them.
    pub headers: Headers,
    /// The body, in the pieces in which it arrives.
    pub body: Vec<Vec<u8>>,
    /// Trailers, if there are any.
    pub trailers: Option<Headers>,
    /// Whether the end of a body comes by itself, after its last piece, as in HTTP/1; in HTTP/2
    /// it comes with that piece.
    pub separate_end: bool,
    /// Attributes of the stream, by their path (segments separated by a zero byte).
    pub properties: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the client goes away, if it does.
    pub disconnect: Option<Disconnect>,
}

/// How far a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// It sends its headers, which are not the end.
    AfterHeaders,
    /// It sends its headers and so many pieces of body, and not the end.
    AfterPieces(usize),
    /// It sends everything and does not wait for the response.
    AfterRequest,
}

impl RequestScript {
    /// A request without a body, by its method and target; it has an authority and a scheme, and
    /// comes from 127.0.0.1.
    pub fn new(method: &str, path: &str) -> Self {
        let headers = headers([
            (":authority", "localhost"),
            (":path", path),
            (":method", method),
            (":scheme", "http"),
        ]);
        Self::from_headers(headers).source("127.0.0.1:50000")
    }

    /// A request of exactly these headers.
    #[must_use]
    pub fn from_headers(headers: Headers) -> Self {
        Self {
            headers,
            body: Vec::new(),
            trailers: None,
            separate_end: true,
            properties: Vec::new(),
            disconnect: None,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Adds a piece of body.
    #[must_use]
    pub fn piece(mut self, data: impl AsRef<[u8]>) -> Self {
        self.body.push(data.as_ref().to_vec());
        self
    }

    /// Ends the request with trailers.
    #[must_use]
    pub fn trailers(mut self, trailers: Headers) -> Self {
        self.trailers = Some(trailers);
        self
    }

    /// The client's address and port, as Envoy gives them in `source.address`.
    #[must_use]
    pub fn source(mut self, address: impl AsRef<[u8]>) -> Self {
        let path = b"source\0address".to_vec();
        self.properties.retain(|(present, _)| *present != path);
        self.properties.push((path, address.as_ref().to_vec()));
        self
    }

    /// The client goes away here.
    #[must_use]
    pub const fn disconnect(mut self, point: Disconnect) -> Self {
        self.disconnect = Some(point);
        self
    }
}

/// What an upstream answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseScript {
    /// Headers, `:status` among them.
    pub headers: Headers,
    /// The body, in the pieces in which it arrives.
    pub body: Vec<Vec<u8>>,
    /// Trailers, if there are any.
    pub trailers: Option<Headers>,
    /// As in [`RequestScript`].
    pub separate_end: bool,
}

impl ResponseScript {
    /// A response without a body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self {
            headers: headers([(":status", status.to_string())]),
            body: Vec::new(),
            trailers: None,
            separate_end: true,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Adds a piece of body.
    #[must_use]
    pub fn piece(mut self, data: impl AsRef<[u8]>) -> Self {
        self.body.push(data.as_ref().to_vec());
        self
    }

    /// Ends the response with trailers.
    #[must_use]
    pub fn trailers(mut self, trailers: Headers) -> Self {
        self.trailers = Some(trailers);
        self
    }
}

impl Default for ResponseScript {
    /// 200 and the body `ok`.
    fn default() -> Self {
        Self::new(200).header("content-length", "2").piece("ok")
    }
}

/// A message that left the filter chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Headers, pseudo headers first.
    pub headers: Headers,
    /// All of the body that has left.
    pub body: Vec<u8>,
    /// Trailers, if there were any.
    pub trailers: Option<Headers>,
    /// Whether its end has left.
    pub complete: bool,
    /// Whether it was broken off.
    pub reset: bool,
}

impl Message {
    /// First value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        str::from_utf8(header(&self.headers, name)?).ok()
    }

    /// All values of a header.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let same = move |n: &[u8]| n.eq_ignore_ascii_case(name.as_bytes());
        self.headers
            .iter()
            .filter(move |(n, _)| same(n))
            .map(|(_, value)| value.as_slice())
    }

    /// The status of a response; zero if it has none.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.header(":status")
            .and_then(|status| status.parse().ok())
            .unwrap_or(0)
    }
}

/// How a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamState {
    /// The client has not sent all of its request, and the filter has not answered it.
    Receiving,
    /// The client has sent everything, and the filter holds the request: nothing moves until a
    /// tick, an answer to a callout or a timeout moves it.
    Held,
    /// The upstream has the whole request; the stream waits for its response.
    Forwarded,
    /// The response has begun, or is held by the filter.
    Responding,
    /// The client has the whole response.
    Answered,
    /// The client went away.
    Disconnected,
    /// The stream was broken off.
    Reset,
}

/// All that a test wants to know of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamResult {
    /// The id of the stream's context in its VM.
    pub context: u32,
    /// How it stands.
    pub state: StreamState,
    /// The request as the upstream got it, if it got any of it.
    pub forwarded: Option<Message>,
    /// The response as the client got it, if it got any of it.
    pub response: Option<Message>,
    /// Who wrote the response.
    pub origin: Option<Origin>,
    /// What the filter told the proxy of its own reply (`status_code_details`).
    pub details: Vec<u8>,
    /// Attributes that the filter set (`proxy_set_property`), by their path.
    pub properties: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The host calls made in callbacks of this stream.
    pub calls: Calls,
    /// The fuel used by callbacks of this stream; empty if fuel is not metered.
    pub fuel: BTreeMap<Callback, u64>,
    /// What the guest did on this stream that is undefined in Envoy.
    pub violations: Vec<String>,
    /// What it logged in this context.
    pub logs: Vec<LogLine>,
    /// Why its VM is dead, if it is.
    pub trap: Option<TrapReport>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It went upstream, and this is the response, if there is one.
    Forwarded {
        /// The request as the upstream got it.
        request: &'a Message,
        /// The response as the client got it.
        response: Option<&'a Message>,
    },
    /// The filter, or the host in Envoy's stead, answered it.
    Local {
        /// The response as the client got it.
        response: &'a Message,
        /// Who wrote it.
        origin: Origin,
    },
    /// It is held.
    Held,
    /// It was broken off without a response.
    Broken,
}

impl StreamResult {
    /// What became of the request.
    #[must_use]
    pub fn verdict(&self) -> Verdict<'_> {
        match (&self.forwarded, &self.response, self.origin) {
            (_, Some(response), Some(origin)) if origin != Origin::Upstream => {
                Verdict::Local { response, origin }
            }
            (Some(request), response, _) if self.state != StreamState::Held => Verdict::Forwarded {
                request,
                response: response.as_ref(),
            },
            _ if matches!(self.state, StreamState::Held | StreamState::Receiving) => Verdict::Held,
            _ => Verdict::Broken,
        }
    }

    /// The status that the client got; zero if it got none.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.response.as_ref().map_or(0, Message::status)
    }

    /// Fuel of all callbacks of this stream.
    #[must_use]
    pub fn total_fuel(&self) -> u64 {
        self.fuel
            .values()
            .fold(0, |sum, fuel| sum.saturating_add(*fuel))
    }
}

/// How an exchange stands, seen from outside.
pub(crate) fn state(exchange: &Exchange) -> StreamState {
    if exchange.disconnected {
        StreamState::Disconnected
    } else if exchange.destroyed {
        if exchange.response.passed {
            StreamState::Answered
        } else {
            StreamState::Reset
        }
    } else if exchange.response.headers.is_some() {
        StreamState::Responding
    } else if exchange.request.passed {
        StreamState::Forwarded
    } else if exchange.request.complete {
        StreamState::Held
    } else {
        StreamState::Receiving
    }
}

/// Puts together the messages that events are pieces of.
pub(crate) fn messages<'a>(
    events: impl IntoIterator<Item = &'a Event>,
) -> (Option<Message>, Option<Message>) {
    let mut messages: [Option<Message>; 2] = [None, None];
    for event in events {
        let [request, response] = &mut messages;
        let message = match event.side() {
            Side::Request => request,
            Side::Response => response,
        };
        if let Event::Headers { headers, .. } = event {
            *message = Some(Message {
                headers: headers.clone(),
                ..Message::default()
            });
        }
        let Some(message) = message else { continue };
        match event {
            Event::Headers { end, .. } => message.complete = *end,
            Event::Data { data, end, .. } => {
                message.body.extend_from_slice(data);
                message.complete = *end;
            }
            Event::Trailers { trailers, .. } => {
                message.trailers = Some(trailers.clone());
                message.complete = true;
            }
            Event::Reset { .. } => message.reset = true,
        }
    }
    messages.into()
}
