//! Whole requests and responses, sent through a worker in one go.

use crate::{
    error::HostError,
    exchange::Side,
    headers::{Headers, header},
    local_reply::is_bodyless,
    script::{Disconnect, RequestScript, ResponseScript, StreamResult, StreamState},
    worker::{Root, StreamId, Worker},
};

impl Worker {
    /// Sends a whole request, or as much of it as the client sends before it goes away.
    ///
    /// # Errors
    /// If there is no such root.
    pub fn send(&mut self, root: Root, script: &RequestScript) -> Result<StreamId, HostError> {
        let id = self.open(root, &script.properties)?;
        let pieces = match script.disconnect {
            Some(Disconnect::AfterHeaders) => Some(0),
            Some(Disconnect::AfterPieces(pieces)) => Some(pieces),
            Some(Disconnect::AfterRequest) | None => None,
        };
        let parts = Parts {
            headers: &script.headers,
            body: &script.body,
            trailers: script.trailers.as_ref(),
            separate_end: script.separate_end,
            pieces,
        };
        self.deliver(id, Side::Request, &parts)?;
        if script.disconnect.is_some() {
            self.disconnect(id)?;
        }
        Ok(id)
    }

    /// The upstream answers.
    ///
    /// # Errors
    /// If there is no such stream, nothing was forwarded, or it was answered.
    pub fn respond(&mut self, id: StreamId, script: &ResponseScript) -> Result<(), HostError> {
        let head = self.peek(id)?.head_request;
        let status = header(&script.headers, ":status").unwrap_or_default();
        let bodyless = head || is_bodyless(status);
        let parts = Parts {
            headers: &script.headers,
            body: if bodyless { &[] } else { &script.body },
            trailers: script.trailers.as_ref().filter(|_| !bodyless),
            separate_end: script.separate_end,
            pieces: None,
        };
        self.deliver(id, Side::Response, &parts)
    }

    /// Sends a request, lets the upstream answer if it gets it, and reports. A stream that is
    /// held stays open: [`Worker::result`] shows what becomes of it.
    ///
    /// # Errors
    /// If there is no such root.
    pub fn request(
        &mut self,
        root: Root,
        request: &RequestScript,
        response: &ResponseScript,
    ) -> Result<(StreamId, StreamResult), HostError> {
        let id = self.send(root, request)?;
        if self.state(id)? == StreamState::Forwarded {
            self.respond(id, response)?;
        }
        Ok((id, self.result(id)?))
    }

    fn deliver(&mut self, id: StreamId, side: Side, parts: &Parts<'_>) -> Result<(), HostError> {
        let complete = parts.pieces.is_none();
        let trailers = parts.trailers.filter(|_| complete);
        let ends_with_headers = complete && parts.body.is_empty() && trailers.is_none();
        self.headers(id, side, parts.headers.clone(), ends_with_headers)?;
        if ends_with_headers {
            return Ok(());
        }
        let ends_with_data = complete && trailers.is_none();
        let last = parts.body.len().saturating_sub(1);
        for (n, piece) in parts
            .body
            .iter()
            .enumerate()
            .take(parts.pieces.unwrap_or(usize::MAX))
        {
            let end = ends_with_data && !parts.separate_end && n == last;
            self.data(id, side, piece.clone(), end)?;
        }
        if ends_with_data && parts.separate_end {
            self.data(id, side, Vec::new(), true)?;
        }
        match trailers {
            Some(trailers) => self.trailers(id, side, trailers.clone()),
            None => Ok(()),
        }
    }
}

/// A message to deliver; or its headers and so many pieces of its body, and not its end.
struct Parts<'a> {
    headers: &'a Headers,
    body: &'a [Vec<u8>],
    trailers: Option<&'a Headers>,
    separate_end: bool,
    pieces: Option<usize>,
}
