//! The host's functions, each with a `Result` (proxy-wasm ABI 0.2.1).
//!
//! Declared here once more rather than taken from the SDK, whose wrappers panic on any status
//! that they don't expect and whose `Status` has no room for one that it doesn't know.

#![expect(
    unsafe_code,
    reason = "the ABI is pointers and lengths; every other module is safe"
)]

use core::ptr;

/// A status other than OK
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HostError {
    NotFound,
    CasMismatch,
    /// Any other, by its number
    Status(u32),
}

/// The maps of headers that we touch, by their numbers in the ABI
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Map {
    RequestHeaders = 0,
    RequestTrailers = 1,
    ResponseHeaders = 2,
    CallResponseHeaders = 6,
}

/// The buffers that we read, by their numbers in the ABI
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Buffer {
    RequestBody = 0,
    ResponseBody = 1,
    CallResponseBody = 4,
    PluginConfiguration = 7,
}

/// The clocks of WASI, by their numbers
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum ClockId {
    Wall = 0,
    Monotonic = 1,
}

/// The kinds of metrics, by their numbers in the ABI
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum MetricKind {
    Counter = 0,
    Gauge = 1,
    Histogram = 2,
}

/// Names and values, in order
pub(crate) type Headers<'a> = Vec<(&'a [u8], &'a [u8])>;

/// All pairs of a map, as the host wrote them
pub(crate) struct Pairs(Vec<u8>);

impl Pairs {
    /// Each name and value, in order
    ///
    /// # Errors
    ///
    /// [`HostError::NotFound`] when the bytes are not what the ABI says: a count, the lengths of
    /// each name and value, then names and values, each with a NUL behind it.
    pub(crate) fn decode(&self) -> Result<Headers<'_>, HostError> {
        self.pairs().ok_or(HostError::NotFound)
    }

    fn pairs(&self) -> Option<Headers<'_>> {
        if self.0.is_empty() {
            return Some(Vec::new());
        }
        let (count, rest) = self.0.split_first_chunk::<4>()?;
        let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
        let (lengths, mut rest) = rest.split_at_checked(count.checked_mul(8)?)?;
        let mut pairs = Vec::with_capacity(count);
        let (lengths, _) = lengths.as_chunks::<8>();
        for [a, b, c, d, e, f, g, h] in lengths {
            let name = usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).ok()?;
            let value = usize::try_from(u32::from_le_bytes([*e, *f, *g, *h])).ok()?;
            let (pair, behind) = rest.split_at_checked(name.checked_add(value)?.checked_add(2)?)?;
            let (name, value) = pair.split_at_checked(name)?;
            // Behind each stands a NUL.
            pairs.push((name, value.get(1..value.len().checked_sub(1)?)?));
            rest = behind;
        }
        Some(pairs)
    }
}

/// All headers of a map
pub(crate) fn map_pairs(map: Map) -> Result<Pairs, HostError> {
    let mut out = Out::new();
    // SAFETY: both pointers are to places of ours that outlive the call.
    let status =
        unsafe { proxy_get_header_map_pairs(map as u32, &raw mut out.data, &raw mut out.size) };
    check(status)?;
    Ok(Pairs(out.into_vec()))
}

/// Adds a header
pub(crate) fn add_header(map: Map, name: &str, value: &str) -> Result<(), HostError> {
    // SAFETY: pointers and lengths are of live strings.
    check(unsafe {
        proxy_add_header_map_value(
            map as u32,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    })
}

/// Puts one header in place of all of that name
pub(crate) fn replace_header(map: Map, name: &str, value: &str) -> Result<(), HostError> {
    // SAFETY: pointers and lengths are of live strings.
    check(unsafe {
        proxy_replace_header_map_value(
            map as u32,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    })
}

/// Removes all headers of a name
///
/// # Errors
///
/// `NotFound` too: what we remove was there when we read the map, so who does not find it has not
/// removed it.
pub(crate) fn remove_header(map: Map, name: &[u8]) -> Result<(), HostError> {
    // SAFETY: pointer and length are of a live slice.
    check(unsafe { proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

/// What a buffer holds, up to `max` bytes
pub(crate) fn buffer(buffer: Buffer, max: usize) -> Result<Vec<u8>, HostError> {
    let mut out = Out::new();
    // SAFETY: both pointers are to places of ours that outlive the call.
    let status = unsafe {
        proxy_get_buffer_bytes(buffer as u32, 0, max, &raw mut out.data, &raw mut out.size)
    };
    match check(status) {
        Ok(()) => Ok(out.into_vec()),
        // An empty buffer is none to Envoy.
        Err(HostError::NotFound) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A property, by its path
pub(crate) fn property(path: &[&str]) -> Result<Vec<u8>, HostError> {
    let path = path.join("\0");
    let mut out = Out::new();
    // SAFETY: pointers and lengths are of a live string and of places that outlive the call.
    let status = unsafe {
        proxy_get_property(
            path.as_ptr(),
            path.len(),
            &raw mut out.data,
            &raw mut out.size,
        )
    };
    check(status)?;
    Ok(out.into_vec())
}

/// Sets a property of the stream, which other filters and the host's access log read
pub(crate) fn set_property(name: &str, value: &[u8]) -> Result<(), HostError> {
    // SAFETY: pointers and lengths are of live slices.
    check(unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// Calls a function that only this host has; what it returns is of no interest
pub(crate) fn call_foreign(name: &str, arguments: &[u8]) -> Result<(), HostError> {
    let mut out = Out::new();
    // SAFETY: pointers and lengths are of live slices and of places that outlive the call.
    let status = unsafe {
        proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            arguments.as_ptr(),
            arguments.len(),
            &raw mut out.data,
            &raw mut out.size,
        )
    };
    drop(out.into_vec());
    check(status)
}

/// Defines a metric, and gives the number by which it is known
pub(crate) fn define_metric(kind: MetricKind, name: &str) -> Result<u32, HostError> {
    let mut number = 0;
    // SAFETY: pointer and length are of a live string, and the place outlives the call.
    check(unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &raw mut number) })?;
    Ok(number)
}

/// Adds to a counter or gauge
pub(crate) fn increment_metric(number: u32, offset: i64) -> Result<(), HostError> {
    // SAFETY: numbers are all there is.
    check(unsafe { proxy_increment_metric(number, offset) })
}

/// Adds to a counter, sets a gauge, or adds a value to a histogram
pub(crate) fn record_metric(number: u32, value: u64) -> Result<(), HostError> {
    // SAFETY: numbers are all there is.
    check(unsafe { proxy_record_metric(number, value) })
}

/// A shared value, and the number under which it may be replaced
pub(crate) fn shared_data(key: &[u8]) -> Result<(Vec<u8>, u32), HostError> {
    let mut out = Out::new();
    let mut cas = 0;
    // SAFETY: pointers and lengths are of a live slice and of places that outlive the call.
    let status = unsafe {
        proxy_get_shared_data(
            key.as_ptr(),
            key.len(),
            &raw mut out.data,
            &raw mut out.size,
            &raw mut cas,
        )
    };
    check(status)?;
    Ok((out.into_vec(), cas))
}

/// Replaces a shared value, if it still has the number
pub(crate) fn set_shared_data(key: &[u8], value: &[u8], cas: u32) -> Result<(), HostError> {
    // SAFETY: pointers and lengths are of live slices.
    check(unsafe {
        proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas)
    })
}

/// Answers the request
///
/// To a gRPC request Envoy makes gRPC of it, unless the headers say it all already; to any other
/// `grpc_status` means nothing.
pub(crate) fn send_local_response(
    status: u16,
    details: &str,
    headers: &[(&'static str, String)],
    body: &[u8],
    grpc_status: u8,
) -> Result<(), HostError> {
    let headers = encode(headers);
    // SAFETY: pointers and lengths are of live slices.
    check(unsafe {
        proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            i32::from(grpc_status),
        )
    })
}

/// Resets the request's stream
pub(crate) fn close_request() -> Result<(), HostError> {
    const HTTP_REQUEST: u32 = 0;
    // SAFETY: a number is all there is.
    check(unsafe { proxy_close_stream(HTTP_REQUEST) })
}

/// Makes another stream the one that host calls are about
pub(crate) fn set_effective_context(context: u32) -> Result<(), HostError> {
    // SAFETY: a number is all there is.
    check(unsafe { proxy_set_effective_context(context) })
}

/// Lets a request go on that was paused
pub(crate) fn continue_request() -> Result<(), HostError> {
    const HTTP_REQUEST: u32 = 0;
    // SAFETY: a number is all there is.
    check(unsafe { proxy_continue_stream(HTTP_REQUEST) })
}

/// Has the root ticked every so many milliseconds, or with 0 never
pub(crate) fn set_tick_period(milliseconds: u32) -> Result<(), HostError> {
    // SAFETY: a number is all there is.
    check(unsafe { proxy_set_tick_period_milliseconds(milliseconds) })
}

/// Makes an HTTP request of a cluster; gives the number under which the answer comes
///
/// The host makes it for the root of the context that it is told of, so it outlives a stream.
pub(crate) fn dispatch_http_call(
    cluster: &str,
    headers: &[(&'static str, String)],
    body: &[u8],
    timeout: u32,
) -> Result<u32, HostError> {
    let headers = encode(headers);
    let trailers = encode(&[]);
    let mut token = 0;
    // SAFETY: pointers and lengths are of live slices and of a place that outlives the call.
    check(unsafe {
        proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            headers.as_ptr(),
            headers.len(),
            body.as_ptr(),
            body.len(),
            trailers.as_ptr(),
            trailers.len(),
            timeout,
            &raw mut token,
        )
    })?;
    Ok(token)
}

/// The host's word of an answer to [`dispatch_http_call`]
///
/// It has another name than the ABI's `proxy_on_http_call_response`, because the SDK exports that one:
/// its own panics over a number that it did not give out itself. The shipped module has this one in
/// its place (`host-tests/xtask/src/trim.rs`).
#[unsafe(no_mangle)]
extern "C" fn portcullis_on_http_call_response(
    root: u32,
    token: u32,
    headers: u32,
    body_size: u32,
    _trailers: u32,
) {
    crate::callout::answered(root, token, headers, body_size);
}

/// Writes a line to the host's log, where `level` is 0 for trace and 4 for error
pub(crate) fn log(level: u32, message: &str) {
    // SAFETY: pointer and length are of a live string. A log that can't be written is nobody's
    // loss that could be told of it.
    let _: u32 = unsafe { proxy_log(level, message.as_ptr(), message.len()) };
}

/// The least level that the host's log takes
pub(crate) fn log_level() -> Result<u32, HostError> {
    let mut level = 0;
    // SAFETY: the pointer is to a place of ours that outlives the call.
    check(unsafe { proxy_get_log_level(&raw mut level) })?;
    Ok(level)
}

/// The nanoseconds that a clock shows
pub(crate) fn clock(id: ClockId) -> Result<u64, HostError> {
    let mut time = 0;
    // SAFETY: the pointer is to a place of ours that outlives the call.
    check(unsafe { clock_time_get(id as u32, 0, &raw mut time) })?;
    Ok(time)
}

/// The variables of the VM's environment, `NAME=value` each
///
/// Not by libc, which ends the VM when its host does not hand them over.
pub(crate) fn environment() -> Result<Vec<Vec<u8>>, HostError> {
    let (mut count, mut size) = (0_usize, 0_usize);
    // SAFETY: both pointers are to places of ours that outlive the call.
    check(unsafe { environ_sizes_get(&raw mut count, &raw mut size) })?;
    if count > MAX_VARIABLES || size > MAX_ENVIRONMENT {
        return Err(HostError::NotFound);
    }
    let mut pointers = vec![ptr::null_mut(); count];
    let mut text = vec![0; size];
    // SAFETY: the host has said how many pointers and bytes it writes, and there is room for them.
    check(unsafe { environ_get(pointers.as_mut_ptr(), text.as_mut_ptr()) })?;
    let variables = text.split(|byte| *byte == 0);
    Ok(variables.map(<[u8]>::to_vec).collect())
}

/// Most variables, and most bytes of them, that an environment has
const MAX_VARIABLES: usize = 4096;
const MAX_ENVIRONMENT: usize = 1024 * 1024;

fn check(status: u32) -> Result<(), HostError> {
    match status {
        0 => Ok(()),
        1 => Err(HostError::NotFound),
        8 => Err(HostError::CasMismatch),
        status => Err(HostError::Status(status)),
    }
}

/// Where the host puts what it returns: memory that it asked us for
struct Out {
    data: *mut u8,
    size: usize,
}

impl Out {
    fn new() -> Self {
        Self {
            data: ptr::null_mut(),
            size: 0,
        }
    }

    fn into_vec(self) -> Vec<u8> {
        if self.data.is_null() || self.size == 0 {
            return Vec::new();
        }
        // SAFETY: the host asked `proxy_on_memory_allocate` for `size` bytes, which made a boxed
        // slice of that length, wrote them all, and gave them up.
        unsafe { Vec::from_raw_parts(self.data, self.size, self.size) }
    }
}

/// Writes headers as the host reads them; see [`Pairs::decode`]
fn encode(headers: &[(&'static str, String)]) -> Vec<u8> {
    let length = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = Vec::with_capacity(512);
    bytes.extend_from_slice(
        &u32::try_from(headers.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    for (name, value) in headers {
        bytes.extend_from_slice(&length(name));
        bytes.extend_from_slice(&length(value));
    }
    for (name, value) in headers {
        for text in [name, value.as_str()] {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        }
    }
    bytes
}

unsafe extern "C" {
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_set_property(
        path: *const u8,
        path_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        arguments: *const u8,
        arguments_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, size: usize, number: *mut u32) -> u32;
    fn proxy_increment_metric(number: u32, offset: i64) -> u32;
    fn proxy_record_metric(number: u32, value: u64) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
        cas: u32,
    ) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_http_call(
        cluster: *const u8,
        cluster_size: usize,
        headers: *const u8,
        headers_size: usize,
        body: *const u8,
        body_size: usize,
        trailers: *const u8,
        trailers_size: usize,
        timeout: u32,
        token: *mut u32,
    ) -> u32;
    fn proxy_close_stream(stream: u32) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_set_tick_period_milliseconds(milliseconds: u32) -> u32;
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_log_level(level: *mut u32) -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn clock_time_get(id: u32, precision: u64, time: *mut u64) -> u32;
    fn environ_get(pointers: *mut *mut u8, text: *mut u8) -> u32;
    fn environ_sizes_get(count: *mut usize, size: *mut usize) -> u32;
}
