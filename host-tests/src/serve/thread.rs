//! One worker's thread: a runtime, a VM, the connections that it took.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::{Future, pending},
    net::TcpListener,
    rc::Rc,
    sync::{Arc, mpsc},
    time::Duration,
};

use hyper::{rt::Executor, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::TcpStream,
    runtime,
    sync::{Notify, watch},
    task::{LocalSet, spawn_local},
    time::sleep,
};

use super::{
    ServeError, stream,
    upstream::{Pool, UpstreamUrl},
};
use crate::{
    engine::Module,
    settings::Plugin,
    shared::Shared,
    worker::{Root, StreamId, Worker},
};

/// All that a thread needs.
pub(super) struct Task {
    pub(super) number: u32,
    pub(super) module: Module,
    pub(super) plugin: Plugin,
    pub(super) shared: Arc<Shared>,
    pub(super) listener: TcpListener,
    pub(super) upstream: UpstreamUrl,
    pub(super) idle_timeout: Duration,
    pub(super) stopped: watch::Receiver<bool>,
    pub(super) started: mpsc::Sender<Result<(), ServeError>>,
}

/// What the tasks of one thread share.
pub(super) struct Local {
    worker: RefCell<Worker>,
    pub(super) root: Root,
    pub(super) pool: Pool,
    pub(super) idle_timeout: Duration,
    pub(super) buffer_limit: usize,
    /// Wakes the tasks of streams for which something has left the filter chain.
    streams: RefCell<BTreeMap<StreamId, Rc<Notify>>>,
    /// Wakes the task that fires ticks.
    alarm: Arc<Notify>,
    next_tick: Cell<Option<u64>>,
}

impl Task {
    pub(super) fn run(self) {
        let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = self.started.send(Err(ServeError::Thread(error)));
                return;
            }
        };
        LocalSet::new().block_on(&runtime, self.serve());
    }

    async fn serve(mut self) {
        let (local, listener) = match self.prepare() {
            Ok(prepared) => prepared,
            Err(error) => {
                let _ = self.started.send(Err(error));
                return;
            }
        };
        let _ = self.started.send(Ok(()));
        spawn_local(keep_time(Rc::clone(&local), Arc::clone(&self.shared)));
        loop {
            tokio::select! {
                _ = self.stopped.wait_for(|stopped| *stopped) => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, client)) => {
                        spawn_local(connection(Rc::clone(&local), stream, client));
                    }
                    // Out of file descriptors, mostly: some are given back soon.
                    Err(_) => sleep(Duration::from_millis(10)).await,
                },
            }
        }
    }

    fn prepare(&self) -> Result<(Rc<Local>, tokio::net::TcpListener), ServeError> {
        let mut worker = Worker::start(&self.module, &self.shared, self.number)?;
        let root = worker.configure(&self.plugin)?;
        let alarm = Arc::new(Notify::new());
        let wake = Arc::clone(&alarm);
        self.shared
            .on_wake(self.number, Box::new(move || wake.notify_one()));
        let listener = self.listener.try_clone().map_err(ServeError::Thread)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(ServeError::Thread)?;
        let local = Local {
            next_tick: Cell::new(worker.next_tick()),
            worker: RefCell::new(worker),
            root,
            pool: Pool::new(self.upstream.clone()),
            idle_timeout: self.idle_timeout,
            buffer_limit: self.shared.settings.buffer_limit,
            streams: RefCell::default(),
            alarm,
        };
        Ok((Rc::new(local), listener))
    }
}

impl Local {
    /// Does something with the worker, and wakes whom that concerns.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Worker) -> R) -> R {
        let mut worker = self.worker.borrow_mut();
        let result = act(&mut worker);
        if worker.next_tick() != self.next_tick.get() {
            self.next_tick.set(worker.next_tick());
            self.alarm.notify_one();
        }
        let streams = self.streams.borrow();
        for id in worker.take_fresh() {
            if let Some(notify) = streams.get(&id) {
                notify.notify_one();
            }
        }
        result
    }

    /// Wakes a stream's task from now on when something has left for it.
    pub(super) fn register(&self, id: StreamId) -> Rc<Notify> {
        let notify = Rc::new(Notify::new());
        self.streams.borrow_mut().insert(id, Rc::clone(&notify));
        notify
    }

    pub(super) fn unregister(&self, id: StreamId) {
        self.streams.borrow_mut().remove(&id);
    }
}

/// Fires ticks and tells the guest of filled queues, as they come.
async fn keep_time(local: Rc<Local>, shared: Arc<Shared>) {
    loop {
        let wait = local
            .next_tick
            .get()
            .map(|due| due.saturating_sub(shared.clock.monotonic()));
        let tick = async {
            match wait {
                Some(nanoseconds) => sleep(Duration::from_nanos(nanoseconds)).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = tick => {}
            () = local.alarm.notified() => {}
        }
        while local.with(Worker::tick) {}
        while local.with(Worker::queue_ready) {}
    }
}

async fn connection(local: Rc<Local>, stream: TcpStream, client: std::net::SocketAddr) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| stream::serve(Rc::clone(&local), client, request));
    let mut builder = auto::Builder::new(LocalExecutor);
    builder.http1().timer(TokioTimer::new()).max_headers(100);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(100);
    // A connection that ends badly has told its client all there is to tell.
    let _ = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Runs hyper's tasks on the thread whose VM they use.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F> Executor<F> for LocalExecutor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}
