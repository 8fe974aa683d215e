//! The driver under a clock and a scheduler that the test turns by hand.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use anatase_core::{Command, Config, Core, ErrorKind, KeyMode, Operation};

use super::{Driver, GRACE, Handle, Over};
use crate::error::Result;
use crate::operation::{OperationFuture, kinds};
use crate::runtime::{Instant, Runtime};
use crate::transport::{Inbox, Transport};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Time stands still and tasks rest until the test says otherwise.
#[derive(Clone, Default)]
struct Manual(Arc<World>);

#[derive(Default)]
struct World {
    now: AtomicU64,
    tasks: Mutex<Vec<(Task, Arc<Woken>)>>,
    sleepers: Mutex<BTreeMap<u64, Vec<Waker>>>,
    polls: AtomicUsize,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Manual {
    /// Runs what has been woken until nothing is.
    fn run(&self) {
        loop {
            let mut tasks = std::mem::take(&mut *self.0.tasks.lock().unwrap());
            let mut idle = true;
            tasks.retain_mut(|(task, woken)| {
                if !woken.0.swap(false, Ordering::SeqCst) {
                    return true;
                }
                idle = false;
                self.0.polls.fetch_add(1, Ordering::SeqCst);
                let waker = woken.clone().into();
                task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
            });
            self.0.tasks.lock().unwrap().append(&mut tasks);
            if idle {
                return;
            }
        }
    }

    /// Lets time pass, stopping at whatever is due.
    fn advance(&self, by: Duration) {
        self.run();
        let end = (self.now() + by).as_nanos();
        loop {
            let due = {
                let mut sleepers = self.0.sleepers.lock().unwrap();
                match sleepers.first_key_value() {
                    Some((&at, _)) if at <= end => sleepers.pop_first(),
                    _ => None,
                }
            };
            let Some((at, wakers)) = due else { break };
            self.0.now.fetch_max(at, Ordering::SeqCst);
            wakers.into_iter().for_each(Waker::wake);
            self.run();
        }
        self.0.now.store(end, Ordering::SeqCst);
    }

    fn tasks(&self) -> usize {
        self.0.tasks.lock().unwrap().len()
    }
}

impl Runtime for Manual {
    type Io = NoIo;

    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.now.load(Ordering::SeqCst))
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send + 'static {
        let world = self.0.clone();
        std::future::poll_fn(move |cx| {
            if world.now.load(Ordering::SeqCst) >= at.as_nanos() {
                return Poll::Ready(());
            }
            let mut sleepers = world.sleepers.lock().unwrap();
            sleepers.entry(at.as_nanos()).or_default().push(cx.waker().clone());
            Poll::Pending
        })
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        self.0.tasks.lock().unwrap().push((Box::pin(task), woken));
    }

    async fn connect(&self, _: &str) -> io::Result<NoIo> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

struct NoIo(Infallible);

impl hyper::rt::Read for NoIo {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0 {}
    }
}

impl hyper::rt::Write for NoIo {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }
}

/// Answers nothing.
#[derive(Clone, Default)]
struct Silent(Arc<(AtomicUsize, AtomicBool)>);

impl Silent {
    fn performed(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    fn is_shut_down(&self) -> bool {
        self.0.1.load(Ordering::SeqCst)
    }
}

impl Transport for Silent {
    fn perform(&self, commands: &mut Vec<Command>, _: &Inbox) {
        self.0.0.fetch_add(commands.len(), Ordering::SeqCst);
        commands.clear();
    }

    fn shutdown(&self) {
        self.0.1.store(true, Ordering::SeqCst);
    }
}

fn start() -> (Manual, Silent, Arc<Handle>) {
    let (world, silent) = (Manual::default(), Silent::default());
    let config = Config::new(vec!["pd:1".into()], KeyMode::Raw);
    let driver = Driver::start(world.clone(), silent.clone(), |now| Core::new(config, 1, now));
    world.run();
    (world, silent, Arc::new(Handle { driver }))
}

fn ready(handle: &Arc<Handle>, timeout: Duration) -> OperationFuture<()> {
    OperationFuture::new(handle.clone(), Operation::Ready, timeout, kinds::READY)
}

fn poll(future: &mut OperationFuture<()>) -> Poll<Result<()>> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_earlier_deadline_moves_the_alarm_and_a_later_one_does_not() {
    let (world, silent, handle) = start();
    let mut long = ready(&handle, 30 * SECOND);
    assert!(poll(&mut long).is_pending());
    assert!(silent.performed() > 0, "the caller's own task has sent the request");
    let mut short = ready(&handle, SECOND / 10);
    assert!(poll(&mut short).is_pending());
    world.advance(SECOND / 20);
    assert!(poll(&mut short).is_pending());
    world.advance(SECOND / 20);
    let Poll::Ready(Err(error)) = poll(&mut short) else { panic!("still waiting") };
    assert_eq!(error.elapsed(), SECOND / 10);
    world.advance(29 * SECOND);
    assert!(poll(&mut long).is_pending());
    world.advance(SECOND);
    assert!(poll(&mut long).is_ready());
}

#[test]
fn operations_that_do_not_move_the_alarm_do_not_wake_it() {
    let (world, _, handle) = start();
    let mut first = ready(&handle, SECOND / 10);
    assert!(poll(&mut first).is_pending());
    world.run();
    let polls = world.0.polls.load(Ordering::SeqCst);
    let mut more: Vec<_> = (0..100).map(|_| ready(&handle, 30 * SECOND)).collect();
    assert!(more.iter_mut().all(|future| poll(future).is_pending()));
    drop(more);
    world.run();
    assert_eq!(world.0.polls.load(Ordering::SeqCst), polls);
    assert_eq!(world.tasks(), 1, "the alarm is the only task");
}

#[test]
fn a_timeout_of_nothing_ends_at_once() {
    let (world, _, handle) = start();
    let mut future = ready(&handle, Duration::ZERO);
    let _ = poll(&mut future);
    world.run();
    assert!(matches!(poll(&mut future), Poll::Ready(Err(_))));
    let mut patient = ready(&handle, Duration::MAX);
    assert!(poll(&mut patient).is_pending());
    world.advance(90 * SECOND);
    assert!(poll(&mut patient).is_pending());
    // A start is bounded by its rounds, whatever its timeout.
    world.advance(3600 * SECOND);
    assert!(matches!(poll(&mut patient), Poll::Ready(Err(_))));
}

#[test]
fn the_last_handle_ends_it_at_once_if_nothing_is_to_be_settled() {
    let (world, silent, handle) = start();
    let mut future = ready(&handle, 30 * SECOND);
    assert!(poll(&mut future).is_pending());
    drop(handle);
    world.run();
    assert_eq!(world.tasks(), 1, "the future is a handle too");
    drop(future);
    world.run();
    assert_eq!(world.tasks(), 0);
    assert!(silent.is_shut_down());
}

#[test]
fn what_does_not_settle_is_given_up_after_the_grace_period() {
    use anatase_core::{CommitPlan, Mutation, MutationOp, Timestamp};
    let (world, silent, handle) = start();
    let mutations = vec![Mutation::new("k", MutationOp::Put("v".into()))];
    let start_ts = Timestamp::from_version(1).unwrap();
    let plan = CommitPlan::new(start_ts, mutations);
    let commit = Operation::Commit(Box::new(plan));
    let mut commit = OperationFuture::new(handle.clone(), commit, 3600 * SECOND, kinds::COMMIT);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut commit).poll(&mut cx).is_pending());
    let mut over = pin!(Over(handle.driver.clone()));
    handle.driver.close();
    world.advance(GRACE - SECOND);
    assert!(over.as_mut().poll(&mut cx).is_pending());
    world.advance(SECOND);
    assert!(over.as_mut().poll(&mut cx).is_ready());
    assert!(silent.is_shut_down());
    assert_eq!(world.tasks(), 0);
    let Poll::Ready(Err(error)) = Pin::new(&mut commit).poll(&mut cx) else {
        panic!("still waiting")
    };
    assert_eq!(error.kind(), &ErrorKind::Closed);
    assert!(error.is_undetermined(), "nobody knows what became of it");
}

#[test]
fn a_panic_inside_ends_the_client_and_leaves_nobody_waiting() {
    let (world, silent, handle) = start();
    let mut future = ready(&handle, 30 * SECOND);
    assert!(poll(&mut future).is_pending());
    let driver = handle.driver.clone();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        driver.with::<()>(|_, _| panic!("a defect"));
    }));
    assert!(panicked.is_err());
    let mut next = ready(&handle, SECOND);
    assert!(matches!(poll(&mut next), Poll::Ready(Err(e)) if *e.kind() == ErrorKind::Closed));
    assert!(matches!(poll(&mut future), Poll::Ready(Err(e)) if *e.kind() == ErrorKind::Closed));
    world.run();
    assert_eq!(world.tasks(), 0);
    assert!(silent.is_shut_down());
}

#[test]
fn a_thousand_operations_leave_no_waiter_behind() {
    let (world, _, handle) = start();
    for round in 0..10 {
        let mut futures: Vec<_> = (0..100).map(|n| ready(&handle, n * SECOND)).collect();
        futures.iter_mut().for_each(|future| drop(poll(future)));
        world.advance(50 * SECOND);
        let over = futures.iter_mut().filter_map(|f| poll(f).is_ready().then_some(())).count();
        assert!(over >= 50, "{over} in round {round}");
        drop(futures);
        assert_eq!(handle.driver.waiters.len(), 0);
    }
}
