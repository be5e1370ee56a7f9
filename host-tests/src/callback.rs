//! The functions that a module exports and the host calls.

use std::fmt;

macro_rules! callbacks {
    ($($variant:ident $name:literal,)*) => {
        /// A function of the module that the host calls.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Callback { $(#[doc = concat!("`", $name, "`")] $variant,)* }

        impl Callback {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Name of the export.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

callbacks! {
    Initialize "_initialize",
    Start "_start",
    ContextCreate "proxy_on_context_create",
    VmStart "proxy_on_vm_start",
    Configure "proxy_on_configure",
    Tick "proxy_on_tick",
    QueueReady "proxy_on_queue_ready",
    RequestHeaders "proxy_on_request_headers",
    RequestBody "proxy_on_request_body",
    RequestTrailers "proxy_on_request_trailers",
    ResponseHeaders "proxy_on_response_headers",
    ResponseBody "proxy_on_response_body",
    ResponseTrailers "proxy_on_response_trailers",
    HttpCallResponse "proxy_on_http_call_response",
    GrpcReceiveInitialMetadata "proxy_on_grpc_receive_initial_metadata",
    GrpcReceive "proxy_on_grpc_receive",
    GrpcReceiveTrailingMetadata "proxy_on_grpc_receive_trailing_metadata",
    GrpcClose "proxy_on_grpc_close",
    ForeignFunction "proxy_on_foreign_function",
    Done "proxy_on_done",
    Log "proxy_on_log",
    Delete "proxy_on_delete",
}

impl fmt::Display for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One call of the host into the module: what, and with which numbers.
///
/// The number of arguments is that of the export; those that the module's signature does not have
/// are not passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// Which export.
    pub callback: Callback,
    /// Its arguments, in order; the first is the context's id.
    pub arguments: [u32; 5],
}

impl Invocation {
    /// A call with the given arguments; those that are missing are zero.
    #[must_use]
    pub fn new(callback: Callback, arguments: &[u32]) -> Self {
        let mut all = [0; 5];
        for (slot, argument) in all.iter_mut().zip(arguments) {
            *slot = *argument;
        }
        Self {
            callback,
            arguments: all,
        }
    }

    /// The context that it is made for.
    #[must_use]
    pub const fn context(&self) -> u32 {
        let [context, ..] = self.arguments;
        context
    }
}
