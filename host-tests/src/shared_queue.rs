//! Queues that workers share (proxy-wasm-cpp-host, `shared_queue.cc`): the last one who
//! registers a name is told of everything that is put in.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::abi::Status;

/// The queues.
#[derive(Debug, Default)]
pub(crate) struct SharedQueues(Mutex<Queues>);

#[derive(Debug, Default)]
struct Queues {
    tokens: BTreeMap<(Vec<u8>, Vec<u8>), u32>,
    queues: BTreeMap<u32, Queue>,
    ready: VecDeque<QueueReady>,
}

#[derive(Debug)]
struct Queue {
    listener: Listener,
    values: VecDeque<Vec<u8>>,
}

/// Who is told that a queue has something in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) worker: u32,
    pub(crate) root_context: u32,
}

/// A queue got a value, and its listener was not told yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueReady {
    pub(crate) listener: Listener,
    pub(crate) token: u32,
}

impl SharedQueues {
    /// The queue's token; from now on this listener is told.
    pub(crate) fn register(&self, vm_id: &[u8], name: &[u8], listener: Listener) -> u32 {
        let mut all = self.lock();
        let next = u32::try_from(all.tokens.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let token = *all
            .tokens
            .entry((vm_id.to_vec(), name.to_vec()))
            .or_insert(next);
        let fresh = Queue {
            listener,
            values: VecDeque::new(),
        };
        all.queues.entry(token).or_insert(fresh).listener = listener;
        token
    }

    pub(crate) fn resolve(&self, vm_id: &[u8], name: &[u8]) -> Option<u32> {
        self.lock()
            .tokens
            .get(&(vm_id.to_vec(), name.to_vec()))
            .copied()
    }

    pub(crate) fn enqueue(&self, token: u32, value: &[u8]) -> Result<Listener, Status> {
        let mut all = self.lock();
        let queue = all.queues.get_mut(&token).ok_or(Status::NOT_FOUND)?;
        queue.values.push_back(value.to_vec());
        let listener = queue.listener;
        all.ready.push_back(QueueReady { listener, token });
        Ok(listener)
    }

    pub(crate) fn dequeue(&self, token: u32) -> Result<Vec<u8>, Status> {
        let mut all = self.lock();
        let queue = all.queues.get_mut(&token).ok_or(Status::NOT_FOUND)?;
        queue.values.pop_front().ok_or(Status::EMPTY)
    }

    /// The oldest word that this worker was not given yet.
    pub(crate) fn next_ready(&self, worker: u32) -> Option<QueueReady> {
        let mut all = self.lock();
        let at = all
            .ready
            .iter()
            .position(|ready| ready.listener.worker == worker)?;
        all.ready.remove(at)
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_registrant_is_told_and_what_was_in_stays() {
        let queues = SharedQueues::default();
        let first = Listener {
            worker: 0,
            root_context: 1,
        };
        let last = Listener {
            worker: 1,
            root_context: 5,
        };
        let token = queues.register(b"vm", b"q", first);
        assert_eq!(queues.enqueue(token, b"a"), Ok(first));
        assert_eq!(queues.register(b"vm", b"q", last), token);
        assert_eq!(queues.enqueue(token, b"b"), Ok(last));
        assert_eq!(queues.resolve(b"vm", b"q"), Some(token));
        assert_eq!(queues.resolve(b"other", b"q"), None);
        assert_eq!(
            queues.next_ready(1),
            Some(QueueReady {
                listener: last,
                token
            })
        );
        assert_eq!(queues.next_ready(1), None);
        assert_eq!(queues.dequeue(token), Ok(b"a".to_vec()));
        assert_eq!(queues.dequeue(token), Ok(b"b".to_vec()));
        assert_eq!(queues.dequeue(token), Err(Status::EMPTY));
        assert_eq!(queues.dequeue(99), Err(Status::NOT_FOUND));
        assert_eq!(queues.enqueue(99, b""), Err(Status::NOT_FOUND));
    }
}
