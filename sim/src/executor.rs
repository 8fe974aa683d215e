//! Tasks: futures of clients that take turns as the agenda says.
//!
//! A waker puts its task on the agenda, once until it has had its turn. A task that wakes itself while
//! it has its turn goes on a microsecond later, so that who spins does not stop the time; otherwise a
//! task waits up to [`Network::scheduling`](crate::Network::scheduling), and at one instant tasks and
//! messages come in any order.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use crate::agenda::{Happening, Key};
use crate::client::{Shared, SimClient};
use crate::fault::ClientId;
use crate::world::{CancelSlot, NOBODY};

pub(crate) type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A task.
pub(crate) struct Task {
    pub(crate) client: ClientId,
    /// Whether the application started it; the others are the client library's own.
    pub(crate) ours: bool,
    /// `None` while it is being polled.
    pub(crate) future: Option<BoxFuture>,
    pub(crate) waker: Arc<TaskWaker>,
}

/// Wakes a task, or the future that the world was asked to run.
pub(crate) struct TaskWaker {
    shared: Weak<Shared>,
    task: Option<(Key, ClientId)>,
    /// It is on the agenda.
    queued: AtomicBool,
}

impl TaskWaker {
    pub(crate) fn main(shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { shared: Arc::downgrade(shared), task: None, queued: false.into() })
    }

    /// It has its turn now: what wakes it from here on is for the next one.
    pub(crate) fn begin_turn(&self) {
        self.queued.store(false, Ordering::Relaxed);
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::Relaxed) {
            return;
        }
        let Some(shared) = self.shared.upgrade() else { return };
        let mut world = shared.lock();
        match self.task {
            Some((key, client)) if world.tasks.get(key).is_some() => {
                let by_itself = world.running == Some(key);
                world.schedule(client, Happening::Wake(key), by_itself);
            }
            Some(_) => {}
            None => {
                let now = world.now;
                world.plan(now, NOBODY, Happening::Main);
            }
        }
    }
}

impl Shared {
    /// Starts a task, if the client is still in this life.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        client: ClientId,
        life: u32,
        ours: bool,
        future: BoxFuture,
    ) -> Option<Key> {
        let mut world = self.lock();
        if !world.lives(client, life) {
            drop(world);
            // Only now: it may run destructors.
            drop(future);
            return None;
        }
        let key = world.tasks.next_key();
        let shared = Arc::downgrade(self);
        let waker = TaskWaker { shared, task: Some((key, client)), queued: true.into() };
        let task = Task { client, ours, future: Some(future), waker: Arc::new(waker) };
        world.tasks.insert(task);
        world.schedule(client, Happening::Wake(key), false);
        Some(key)
    }

    /// Lets a task have its turn.
    pub(crate) fn poll_task(&self, key: Key, mut future: BoxFuture, waker: Arc<TaskWaker>) {
        waker.begin_turn();
        let waker = Waker::from(waker);
        let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
        let mut world = self.lock();
        world.running = None;
        let rest = match (poll, world.tasks.get_mut(key)) {
            (Poll::Pending, Some(task)) => {
                task.future = Some(future);
                return;
            }
            (Poll::Pending, None) => None,
            (Poll::Ready(()), _) => world.tasks.remove(key),
        };
        drop(world);
        drop(rest);
    }
}

// ---- the application's hold on a task ----------------------------------------------------------

/// A task's end, when it comes.
///
/// As a future it completes when the task has: with its output, or with [`Lost`] if it was aborted or
/// its client crashed. Dropping it leaves the task alone.
pub struct JoinHandle<T> {
    slot: Arc<Slot<T>>,
    shared: Weak<Shared>,
    task: Option<Key>,
}

/// A task that did not come to its end: it was aborted, or its client crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task was dropped before its end: it was aborted, or its client crashed")]
pub struct Lost;

struct Slot<T>(Mutex<Progress<T>>);

enum Progress<T> {
    Running(Option<Waker>),
    Over(Result<T, Lost>),
    Taken,
}

impl<T> Slot<T> {
    fn with<O>(&self, apply: impl FnOnce(&mut Progress<T>) -> O) -> O {
        apply(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn end(&self, result: Result<T, Lost>) {
        let waker = self.with(|progress| match progress {
            Progress::Running(waker) => {
                let waker = waker.take();
                *progress = Progress::Over(result);
                waker
            }
            Progress::Over(_) | Progress::Taken => None,
        });
        waker.into_iter().for_each(Waker::wake);
    }
}

/// However a task ends, its slot hears of it.
struct Guard<T>(Arc<Slot<T>>);

impl<T> Drop for Guard<T> {
    fn drop(&mut self) {
        self.0.end(Err(Lost));
    }
}

impl<T: Send + 'static> JoinHandle<T> {
    pub(crate) fn spawn(
        shared: &Arc<Shared>,
        client: ClientId,
        life: u32,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        let slot = Arc::new(Slot(Mutex::new(Progress::Running(None))));
        let guard = Guard(slot.clone());
        let task = async move {
            let guard = guard;
            let output = future.await;
            guard.0.end(Ok(output));
        };
        let task = shared.spawn(client, life, true, Box::pin(task));
        Self { slot, shared: Arc::downgrade(shared), task }
    }

    /// Drops the task, if it is not over.
    pub fn abort(&self) {
        if let (Some(shared), Some(task)) = (self.shared.upgrade(), self.task) {
            let task = shared.lock().tasks.remove(task);
            drop(task);
        }
    }

    /// Whether it is over.
    pub fn is_finished(&self) -> bool {
        self.slot.with(|progress| !matches!(progress, Progress::Running(_)))
    }

    /// What came of it, once it is over, and once only.
    pub fn take(&self) -> Option<Result<T, Lost>> {
        self.slot.with(|progress| match std::mem::replace(progress, Progress::Taken) {
            Progress::Over(result) => Some(result),
            Progress::Taken => None,
            running @ Progress::Running(_) => {
                *progress = running;
                None
            }
        })
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, Lost>;

    /// # Panics
    /// If the result was taken before.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Lost>> {
        self.slot.with(|progress| match std::mem::replace(progress, Progress::Taken) {
            Progress::Over(result) => Poll::Ready(result),
            Progress::Running(_) => {
                *progress = Progress::Running(Some(cx.waker().clone()));
                Poll::Pending
            }
            Progress::Taken => panic!("the result of a task is there only once"),
        })
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("task", &self.task).finish_non_exhaustive()
    }
}

// ---- cancellation ------------------------------------------------------------------------------

/// An operation that [`NetFault::Cancel`](crate::NetFault::Cancel) may drop: completes with its
/// output, or with `None` if it was dropped. See [`SimClient::cancellable`].
#[must_use = "futures do nothing unless awaited"]
pub struct Cancellable<F> {
    future: Option<Pin<Box<F>>>,
    client: SimClient,
    slot: Option<Key>,
}

impl<F> Cancellable<F> {
    pub(crate) fn new(client: SimClient, future: F) -> Self {
        Self { future: Some(Box::pin(future)), client, slot: None }
    }

    fn forget(&mut self) {
        if let Some(slot) = self.slot.take() {
            let slot = self.client.shared.lock().cancellables.remove(slot);
            drop(slot);
        }
    }
}

impl<F: Future> Future for Cancellable<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let this = &mut *self;
        let mut old = None;
        let cancelled = {
            let mut world = this.client.shared.lock();
            let slot = match this.slot {
                Some(slot) => slot,
                None => {
                    world.begun += 1;
                    let (client, begun) = (this.client.id(), world.begun);
                    let slot = CancelSlot { client, begun, cancelled: false, waker: None };
                    *this.slot.insert(world.cancellables.insert(slot))
                }
            };
            match world.cancellables.get_mut(slot) {
                Some(slot) => {
                    old = slot.waker.replace(cx.waker().clone());
                    slot.cancelled
                }
                // Its client has crashed.
                None => true,
            }
        };
        drop(old);
        if cancelled {
            this.future = None;
            this.forget();
            return Poll::Ready(None);
        }
        let Some(future) = &mut this.future else { return Poll::Ready(None) };
        let output = std::task::ready!(future.as_mut().poll(cx));
        this.future = None;
        this.forget();
        Poll::Ready(Some(output))
    }
}

impl<F> Drop for Cancellable<F> {
    fn drop(&mut self) {
        self.forget();
    }
}

impl<F> fmt::Debug for Cancellable<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancellable").field("over", &self.future.is_none()).finish_non_exhaustive()
    }
}
