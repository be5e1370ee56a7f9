//! One request's way through the filter: what arrives from the client and the upstream goes into
//! the worker, what leaves it goes on.

use std::{convert::Infallible, net::SocketAddr, rc::Rc, time::Duration};

use http_body_util::BodyExt;
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Bytes, Frame, Incoming},
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::{JoinHandle, spawn_local},
    time::{Instant, sleep_until},
};

use super::{
    convert,
    thread::Local,
    upstream::{Broken, Connection, Piece, PieceBody},
};
use crate::{
    exchange::{Event, Side},
    script::StreamState,
    worker::StreamId,
};

/// Answers a request; an error breaks the stream off.
pub(super) async fn serve(
    local: Rc<Local>,
    client: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<PieceBody>, Broken> {
    let (parts, body) = request.into_parts();
    let headers = convert::request_headers(&parts, client, &request_id());
    let address = (b"source\0address".to_vec(), client.to_string().into_bytes());
    let port = i64::from(client.port()).to_le_bytes().to_vec();
    let properties = [address, (b"source\0port".to_vec(), port)];
    let root = local.root;
    let id = local
        .with(|worker| worker.open(root, &properties))
        .map_err(|_| Broken)?;
    let notify = local.register(id);
    let end = body.is_end_stream();
    let _ = local.with(|worker| worker.headers(id, Side::Request, headers, end));
    let (head, response) = oneshot::channel();
    let stream = Stream {
        id,
        notify,
        request: (!end).then_some(body),
        head: Some(head),
        client: None,
        upstream: None,
        asked: None,
        response: None,
        idle_timeout: local.idle_timeout,
        local,
    };
    spawn_local(stream.run());
    // Dropped without an answer, it was broken off. If the client goes away, hyper drops this
    // future, and the task sees its receiver gone.
    response.await.map_err(|_| Broken)
}

/// A random id for the request, as Envoy gives one to each (RFC 9562, version 4).
fn request_id() -> String {
    let mut bytes = [0; 16];
    let _ = getrandom::fill(&mut bytes);
    let n = u128::from_be_bytes(bytes) & !(0xF << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{n:032x}");
    let mut id = String::with_capacity(36);
    for (at, digit) in hex.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            id.push('-');
        }
        id.push(digit);
    }
    id
}

type Asked = JoinHandle<std::io::Result<(Response<Incoming>, Connection)>>;

struct Stream {
    local: Rc<Local>,
    id: StreamId,
    notify: Rc<Notify>,
    idle_timeout: Duration,
    /// What is still to come from the client.
    request: Option<Incoming>,
    /// Where the response's head goes, until it has gone.
    head: Option<oneshot::Sender<Response<PieceBody>>>,
    /// Where its body goes.
    client: Option<mpsc::Sender<Piece>>,
    /// Where the request's body goes.
    upstream: Option<mpsc::Sender<Piece>>,
    /// The upstream's response, until it is there.
    asked: Option<Asked>,
    /// What is still to come from the upstream, and its connection.
    response: Option<(Incoming, Connection)>,
}

/// What happened next.
enum Next {
    /// The worker may have something.
    Woken,
    FromClient(Option<Result<Frame<Bytes>, hyper::Error>>),
    Asked(std::io::Result<(Response<Incoming>, Connection)>),
    FromUpstream(Option<Result<Frame<Bytes>, hyper::Error>>),
    ClientGone,
    Idle,
}

impl Stream {
    async fn run(mut self) {
        loop {
            self.pass_on().await;
            let state = self.local.with(|worker| worker.state(self.id));
            let over = matches!(
                state,
                Err(_) | Ok(StreamState::Answered | StreamState::Disconnected | StreamState::Reset)
            );
            if over {
                break;
            }
            match self.next().await {
                Next::Woken => {}
                Next::FromClient(frame) => self.client_sent(frame),
                Next::Asked(answer) => self.upstream_answered(answer),
                Next::FromUpstream(frame) => self.upstream_sent(frame),
                Next::ClientGone => {
                    let _ = self.local.with(|worker| worker.disconnect(self.id));
                }
                Next::Idle => {
                    let _ = self.local.with(|worker| worker.time_out(self.id));
                }
            }
        }
        self.local.unregister(self.id);
        let _ = self.local.with(|worker| worker.forget(self.id));
    }

    async fn next(&mut self) -> Next {
        let id = self.id;
        let held = self.local.with(|worker| worker.held_bytes(id)).unwrap_or(0);
        // A filter that holds the body in full makes the client wait.
        let may_read = held <= self.local.buffer_limit;
        let deadline = Instant::now().checked_add(self.idle_timeout);
        let Self {
            request,
            head,
            client,
            asked,
            response,
            notify,
            ..
        } = self;
        tokio::select! {
            () = notify.notified() => Next::Woken,
            () = gone(head, client) => Next::ClientGone,
            frame = read(request), if may_read => Next::FromClient(frame),
            answer = answered(asked) => Next::Asked(answer),
            frame = read_response(response) => Next::FromUpstream(frame),
            () = until(deadline) => Next::Idle,
        }
    }

    fn client_sent(&mut self, frame: Option<Result<Frame<Bytes>, hyper::Error>>) {
        let end = self.request.as_ref().is_none_or(Body::is_end_stream);
        match self.deliver(Side::Request, frame, end) {
            Delivered::More => {}
            Delivered::End => self.request = None,
            Delivered::Broken => {
                self.request = None;
                let _ = self.local.with(|worker| worker.disconnect(self.id));
            }
        }
    }

    fn upstream_answered(&mut self, answer: std::io::Result<(Response<Incoming>, Connection)>) {
        self.asked = None;
        let id = self.id;
        let Ok((response, connection)) = answer else {
            let _ = self.local.with(|worker| worker.upstream_reset(id));
            return;
        };
        let (parts, body) = response.into_parts();
        let end = body.is_end_stream();
        if end {
            self.local.pool.give_back(connection);
        } else {
            self.response = Some((body, connection));
        }
        let headers = convert::response_headers(&parts);
        let _ = self
            .local
            .with(|worker| worker.headers(id, Side::Response, headers, end));
    }

    fn upstream_sent(&mut self, frame: Option<Result<Frame<Bytes>, hyper::Error>>) {
        let end = self
            .response
            .as_ref()
            .is_none_or(|(body, _)| body.is_end_stream());
        match self.deliver(Side::Response, frame, end) {
            Delivered::More => {}
            Delivered::End => {
                if let Some((_, connection)) = self.response.take() {
                    self.local.pool.give_back(connection);
                }
            }
            Delivered::Broken => {
                self.response = None;
                let _ = self.local.with(|worker| worker.upstream_reset(self.id));
            }
        }
    }

    /// Hands the worker a piece that arrived; `end` if nothing follows it.
    fn deliver(
        &self,
        side: Side,
        frame: Option<Result<Frame<Bytes>, hyper::Error>>,
        end: bool,
    ) -> Delivered {
        let id = self.id;
        let frame = match frame {
            None => {
                let _ = self
                    .local
                    .with(|worker| worker.data(id, side, Vec::new(), true));
                return Delivered::End;
            }
            Some(Err(_)) => return Delivered::Broken,
            Some(Ok(frame)) => frame,
        };
        match frame.into_data() {
            Ok(data) => {
                let _ = self
                    .local
                    .with(|worker| worker.data(id, side, data.to_vec(), end));
                if end { Delivered::End } else { Delivered::More }
            }
            Err(frame) => {
                let trailers = frame
                    .into_trailers()
                    .map(|map| convert::from_trailers(&map));
                let trailers = trailers.unwrap_or_default();
                let _ = self
                    .local
                    .with(|worker| worker.trailers(id, side, trailers));
                Delivered::End
            }
        }
    }

    /// Sends on what has left the filter chain.
    async fn pass_on(&mut self) {
        let events = self
            .local
            .with(|worker| worker.take_events(self.id))
            .unwrap_or_default();
        for event in events {
            match event {
                Event::Headers {
                    side: Side::Request,
                    headers,
                    end,
                } => self.ask(&headers, end),
                Event::Headers {
                    side: Side::Response,
                    headers,
                    end,
                } => {
                    self.answer(&headers, end);
                }
                Event::Data { side, data, end } => {
                    if !data.is_empty() {
                        self.send(side, Ok(Frame::data(data.into()))).await;
                    }
                    if end {
                        self.end(side);
                    }
                }
                Event::Trailers { side, trailers } => {
                    self.send(side, Ok(Frame::trailers(convert::trailers(&trailers))))
                        .await;
                    self.end(side);
                }
                Event::Reset { side } => {
                    self.send(side, Err(Broken)).await;
                    self.end(side);
                    match side {
                        Side::Request => {
                            self.response = None;
                            if let Some(asked) = self.asked.take() {
                                asked.abort();
                            }
                        }
                        Side::Response => self.head = None,
                    }
                }
            }
        }
    }

    fn ask(&mut self, headers: &crate::headers::Headers, end: bool) {
        let body = if end {
            PieceBody::empty()
        } else {
            let (sender, body) = PieceBody::channel();
            self.upstream = Some(sender);
            body
        };
        let local = Rc::clone(&self.local);
        let request = convert::upstream_request(headers, body);
        self.asked = Some(spawn_local(async move {
            let unsendable = || std::io::Error::other("headers that can't be sent");
            local.pool.send(request.ok_or_else(unsendable)?).await
        }));
    }

    fn answer(&mut self, headers: &crate::headers::Headers, end: bool) {
        let Some(head) = self.head.take() else { return };
        let (sender, body) = if end {
            (None, PieceBody::empty())
        } else {
            let (sender, body) = PieceBody::channel();
            (Some(sender), body)
        };
        let response = convert::client_response(headers, body).unwrap_or_else(|| {
            let mut response = Response::new(PieceBody::empty());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        });
        // A receiver that is gone is noticed by the loop.
        self.client = sender;
        let _ = head.send(response);
    }

    async fn send(&self, side: Side, piece: Piece) {
        let to = match side {
            Side::Request => &self.upstream,
            Side::Response => &self.client,
        };
        if let Some(to) = to {
            let _ = to.send(piece).await;
        }
    }

    fn end(&mut self, side: Side) {
        match side {
            Side::Request => self.upstream = None,
            Side::Response => self.client = None,
        }
    }
}

/// What a piece was.
enum Delivered {
    More,
    End,
    Broken,
}

/// Waits for a piece of a body, for ever if there is no body.
async fn read(body: &mut Option<Incoming>) -> Option<Result<Frame<Bytes>, hyper::Error>> {
    match body {
        Some(body) => body.frame().await,
        None => never().await,
    }
}

async fn read_response(
    body: &mut Option<(Incoming, Connection)>,
) -> Option<Result<Frame<Bytes>, hyper::Error>> {
    match body {
        Some((body, _)) => body.frame().await,
        None => never().await,
    }
}

async fn answered(asked: &mut Option<Asked>) -> std::io::Result<(Response<Incoming>, Connection)> {
    match asked {
        Some(asked) => asked.await.map_err(std::io::Error::other)?,
        None => never().await,
    }
}

/// Waits until nobody wants the response any more.
async fn gone(
    head: &mut Option<oneshot::Sender<Response<PieceBody>>>,
    client: &Option<mpsc::Sender<Piece>>,
) {
    match (head, client) {
        (Some(head), _) => head.closed().await,
        (None, Some(client)) => client.closed().await,
        (None, None) => never().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => never().await,
    }
}

async fn never<T>() -> T {
    match std::future::pending::<Infallible>().await {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_a_random_uuid() {
        let id = request_id();
        let groups: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&id.as_bytes()[19]));
        assert_ne!(id, request_id());
    }
}
