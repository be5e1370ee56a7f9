//! The numbers of the proxy-wasm ABI 0.2.1 (<https://github.com/proxy-wasm/spec>).

use std::fmt;

/// What a host call answers.
///
/// A newtype and not an enum: a test may force any number on a call, those that the ABI does not
/// define included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(pub u32);

impl Status {
    /// The call did what it was asked to do.
    pub const OK: Self = Self(0);
    /// The key, header, property or queue does not exist.
    pub const NOT_FOUND: Self = Self(1);
    /// An argument makes no sense, or what it names is not available now.
    pub const BAD_ARGUMENT: Self = Self(2);
    /// A value could not be serialised.
    pub const SERIALIZATION_FAILURE: Self = Self(3);
    /// A value could not be parsed.
    pub const PARSE_FAILURE: Self = Self(4);
    /// A pointer leaves the guest's memory, or the guest could not allocate.
    pub const INVALID_MEMORY_ACCESS: Self = Self(6);
    /// The queue holds nothing.
    pub const EMPTY: Self = Self(7);
    /// The value was changed by someone else since it was read.
    pub const CAS_MISMATCH: Self = Self(8);
    /// The host failed.
    pub const INTERNAL_FAILURE: Self = Self(10);
    /// The connection broke.
    pub const BROKEN_CONNECTION: Self = Self(11);
    /// The host does not do that.
    pub const UNIMPLEMENTED: Self = Self(12);

    /// All statuses that the ABI defines.
    pub const ALL: [Self; 11] = [
        Self::OK,
        Self::NOT_FOUND,
        Self::BAD_ARGUMENT,
        Self::SERIALIZATION_FAILURE,
        Self::PARSE_FAILURE,
        Self::INVALID_MEMORY_ACCESS,
        Self::EMPTY,
        Self::CAS_MISMATCH,
        Self::INTERNAL_FAILURE,
        Self::BROKEN_CONNECTION,
        Self::UNIMPLEMENTED,
    ];
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::OK => "Ok",
            Self::NOT_FOUND => "NotFound",
            Self::BAD_ARGUMENT => "BadArgument",
            Self::SERIALIZATION_FAILURE => "SerializationFailure",
            Self::PARSE_FAILURE => "ParseFailure",
            Self::INVALID_MEMORY_ACCESS => "InvalidMemoryAccess",
            Self::EMPTY => "Empty",
            Self::CAS_MISMATCH => "CasMismatch",
            Self::INTERNAL_FAILURE => "InternalFailure",
            Self::BROKEN_CONNECTION => "BrokenConnection",
            Self::UNIMPLEMENTED => "Unimplemented",
            Self(other) => return write!(f, "Status({other})"),
        })
    }
}

macro_rules! abi_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum $name { $($(#[$doc])* $variant = $value,)* }

        impl $name {
            /// The variant with this number, if the ABI defines one.
            #[must_use]
            pub const fn from_raw(raw: u32) -> Option<Self> {
                match raw {
                    $($value => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The number in the ABI.
            #[must_use]
            pub const fn raw(self) -> u32 {
                match self { $(Self::$variant => $value,)* }
            }
        }
    };
}

abi_enum! {
    /// A map of headers, trailers or metadata.
    MapType {
        /// Request headers, pseudo headers first.
        RequestHeaders = 0,
        /// Request trailers.
        RequestTrailers = 1,
        /// Response headers, `:status` first.
        ResponseHeaders = 2,
        /// Response trailers.
        ResponseTrailers = 3,
        /// Initial metadata of a gRPC callout's answer.
        GrpcReceiveInitialMetadata = 4,
        /// Trailing metadata of a gRPC callout's answer.
        GrpcReceiveTrailingMetadata = 5,
        /// Headers of an HTTP callout's answer.
        HttpCallResponseHeaders = 6,
        /// Trailers of an HTTP callout's answer.
        HttpCallResponseTrailers = 7,
    }
}

abi_enum! {
    /// A buffer of bytes.
    BufferType {
        /// Request body: this chunk, or all of it while the filter pauses.
        HttpRequestBody = 0,
        /// Response body, likewise.
        HttpResponseBody = 1,
        /// TCP bytes from the client; always empty here.
        DownstreamData = 2,
        /// TCP bytes to the client; always empty here.
        UpstreamData = 3,
        /// Body of an HTTP callout's answer.
        HttpCallResponseBody = 4,
        /// Message of a gRPC callout's answer.
        GrpcReceiveBuffer = 5,
        /// Configuration of the VM.
        VmConfiguration = 6,
        /// Configuration of the plugin; there only while it is being configured.
        PluginConfiguration = 7,
        /// Arguments of a foreign function; always empty here.
        CallData = 8,
    }
}

abi_enum! {
    /// What `proxy_continue_stream` and `proxy_close_stream` speak of.
    StreamType {
        /// The request's direction.
        Request = 0,
        /// The response's direction.
        Response = 1,
        /// A TCP connection's client side.
        Downstream = 2,
        /// A TCP connection's server side.
        Upstream = 3,
    }
}

abi_enum! {
    /// Kind of a metric.
    MetricType {
        /// Only grows.
        Counter = 0,
        /// Goes both ways.
        Gauge = 1,
        /// A distribution; can be recorded, not read.
        Histogram = 2,
    }
}

abi_enum! {
    /// Level of a log line.
    LogLevel {
        /// Every step.
        Trace = 0,
        /// For those who debug.
        Debug = 1,
        /// Worth knowing.
        Info = 2,
        /// Suspicious.
        Warn = 3,
        /// Something went wrong.
        Error = 4,
        /// The VM is about to die.
        Critical = 5,
    }
}
