//! A server of one static file, as it stands behind a gate that fetches it.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use portcullis_corpus::wire::h1::{self, Incoming};
use portcullis_corpus::wire::stream::{Connection, Deadline};

/// A server of one static file: ranges, entity tags.
#[derive(Default)]
pub(crate) struct Served {
    /// `None`: it is away.
    pub(crate) file: Option<(Vec<u8>, &'static str)>,
    /// Pages that it gave out.
    pub(crate) pages: usize,
    /// How often it was told that it has the file already.
    pub(crate) unchanged: usize,
    /// Questions, answered or not.
    pub(crate) asked: usize,
}

pub(crate) type Shared = Arc<Mutex<Served>>;

pub(crate) fn serve(socket: &Path) -> Shared {
    let shared = Shared::default();
    let listener = UnixListener::bind(socket).unwrap();
    let served = Arc::clone(&shared);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let served = Arc::clone(&served);
            thread::spawn(move || {
                let mut connection = Connection::accepted(stream, deadline());
                if let Ok(Some(request)) = h1::read_request(&mut connection) {
                    let answer = answer(&mut served.lock().unwrap(), &request);
                    // Envoy may have gone.
                    let _ = connection.write_all(&answer);
                }
            });
        }
    });
    shared
}

fn answer(served: &mut Served, request: &Incoming) -> Vec<u8> {
    served.asked += 1;
    let Some((file, etag)) = &served.file else {
        return Vec::new();
    };
    let asked = |name: &str| {
        let value = request.headers.iter().find(|(other, _)| other == name);
        value.map(|(_, value)| String::from_utf8(value.clone()).unwrap())
    };
    let head = |status: &str, length: usize, more: &str| {
        format!(
            "HTTP/1.1 {status}\r\netag: {etag}\r\ncontent-length: {length}\r\nconnection: close\r\n{more}\r\n"
        )
    };
    if asked("if-none-match").is_some_and(|known| known == *etag) {
        let unchanged = head("304 Not Modified", 0, "").into_bytes();
        served.unchanged += 1;
        return unchanged;
    }
    let range = asked("range").unwrap();
    let (from, to) = range
        .strip_prefix("bytes=")
        .unwrap()
        .split_once('-')
        .unwrap();
    let from: usize = from.parse().unwrap();
    let to = to.parse::<usize>().unwrap().min(file.len() - 1);
    let more = format!("content-range: bytes {from}-{to}/{}\r\n", file.len());
    let page = file.get(from..=to).unwrap();
    served.pages += 1;
    [
        head("206 Partial Content", page.len(), &more).as_bytes(),
        page,
    ]
    .concat()
}

pub(crate) fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}
