//! Little guests for tests, written as lists of host calls. A guest logs every callback with its
//! arguments, and every host call with the status that it got and what came back, so that its
//! log is the whole story; the same guest tells it in Envoy.

use std::collections::BTreeMap;

use portcullis_host::{BufferType, Callback, Headers, MapType, headers};

use crate::assembler;

/// A number that an operation uses.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Is(u32),
    /// The compare-and-set number that was read last.
    LastCas,
    /// The queue, metric or callout that was made last.
    LastToken,
    /// The context that [`Op::SaveContext`] noted.
    SavedContext,
}

/// One thing that a guest does in a callback.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Log(&'static str),
    GetHeader(MapType, &'static str),
    AddHeader(MapType, &'static str, &'static str),
    ReplaceHeader(MapType, &'static str, &'static str),
    RemoveHeader(MapType, &'static str),
    GetPairs(MapType),
    SetPairs(MapType, Vec<u8>),
    MapSize(MapType),
    GetBody(BufferType, u32, u32),
    SetBody(BufferType, u32, u32, &'static str),
    BodyStatus(BufferType),
    GetProperty(&'static str),
    SetProperty(&'static str, &'static str),
    GetShared(&'static str),
    SetShared(&'static str, &'static str, Number),
    RegisterQueue(&'static str),
    ResolveQueue(&'static str, &'static str),
    Enqueue(Number, &'static str),
    Dequeue(Number),
    DefineMetric(u32, &'static str),
    Increment(Number, i64),
    Record(Number, u64),
    GetMetric(Number),
    HttpCall {
        cluster: &'static str,
        headers: Headers,
        body: &'static str,
        timeout: u32,
    },
    GrpcCall {
        cluster: &'static str,
        message: &'static str,
        timeout: u32,
    },
    GrpcStream {
        cluster: &'static str,
    },
    GrpcSend(Number, &'static str),
    GrpcCancel(Number),
    GrpcClose(Number),
    GetStatus,
    Reply {
        status: u32,
        headers: Headers,
        body: &'static str,
        /// -1: none.
        grpc: i32,
    },
    Continue(u32),
    Close(u32),
    SaveContext,
    Act(Number),
    Done,
    Tick(u32),
    Time,
    WasiTime(u32),
    Random(u32),
    Environment,
    Print(u32, &'static str),
    Foreign(&'static str),
    Exit(u32),
    Trap,
    Loop,
    Recurse,
    Grow(u32),
    /// Only the nth time that this callback is called.
    Nth(u32, Vec<Self>),
    /// Only when the last argument is so (the end of the stream, mostly).
    IfLast(u32, Vec<Self>),
    Return(u32),
}

/// An HTTP reply with a short body.
pub(crate) fn reply(status: u32, body: &'static str) -> Op {
    Op::Reply {
        status,
        headers: Vec::new(),
        body,
        grpc: -1,
    }
}

/// An HTTP callout that Envoy would take.
pub(crate) fn http_call(cluster: &'static str, timeout: u32) -> Op {
    let headers = headers([(":method", "GET"), (":path", "/"), (":authority", "keys")]);
    Op::HttpCall {
        cluster,
        headers,
        body: "",
        timeout,
    }
}

/// What a callback returns to let pass, and to wait.
pub(crate) const CONTINUE: u32 = 0;
pub(crate) const PAUSE: u32 = 1;

/// Asks for headers and bodies of both directions, wherever it is.
pub(crate) fn nosy() -> Vec<Op> {
    vec![
        Op::GetHeader(MapType::RequestHeaders, ":path"),
        Op::GetBody(BufferType::HttpRequestBody, 0, 100),
        Op::GetHeader(MapType::ResponseHeaders, ":status"),
        Op::GetBody(BufferType::HttpResponseBody, 0, 100),
        Op::GetHeader(MapType::RequestTrailers, "t"),
        Op::GetHeader(MapType::ResponseTrailers, "t"),
    ]
}

/// Asks for the request's body.
pub(crate) fn body() -> Op {
    Op::GetBody(BufferType::HttpRequestBody, 0, 1000)
}

/// Asks for the response's body.
pub(crate) fn answer_body() -> Op {
    Op::GetBody(BufferType::HttpResponseBody, 0, 1000)
}

/// Pauses while the last argument is zero: until the stream's end.
pub(crate) fn until_end() -> Op {
    Op::IfLast(0, vec![Op::Return(PAUSE)])
}

/// Pauses; a tick that resumes comes when the client has sent everything.
pub(crate) fn hold() -> Vec<Op> {
    vec![Op::SaveContext, Op::Tick(1500), Op::Return(PAUSE)]
}

/// Resumes the noted context from a tick, in this direction.
pub(crate) fn resume(stream: u32) -> Vec<Op> {
    vec![
        Op::Act(Number::SavedContext),
        Op::Continue(stream),
        Op::Act(Number::Is(1)),
        Op::Tick(0),
    ]
}

/// A guest in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guest {
    pub(crate) callbacks: BTreeMap<Callback, Vec<Op>>,
    pub(crate) imports: Vec<(&'static str, &'static str)>,
    pub(crate) without: Vec<&'static str>,
}

impl Guest {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// What it does in a callback. A callback without operations is logged and lets pass.
    pub(crate) fn on(mut self, callback: Callback, ops: impl IntoIterator<Item = Op>) -> Self {
        self.callbacks.entry(callback).or_default().extend(ops);
        self
    }

    /// A further import, of a function without arguments.
    pub(crate) fn import(mut self, module: &'static str, name: &'static str) -> Self {
        self.imports.push((module, name));
        self
    }

    /// Leaves out an export.
    pub(crate) fn without(mut self, export: &'static str) -> Self {
        self.without.push(export);
        self
    }

    /// The module.
    pub(crate) fn build(&self) -> Vec<u8> {
        assembler::assemble(self)
    }
}

/// Header pairs in the ABI's layout.
pub(crate) fn serialize(headers: &Headers) -> Vec<u8> {
    let word = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
    let mut out = word(headers.len()).to_vec();
    for (name, value) in headers {
        out.extend([word(name.len()), word(value.len())].concat());
    }
    for (name, value) in headers {
        out.extend([name.as_slice(), &[0], value, &[0]].concat());
    }
    out
}
