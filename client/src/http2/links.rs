//! One link per address: idle, connecting, open or resting.
//!
//! ```text
//! Idle ─▶ Connecting ─▶ Open ─▶ Idle      a connection that worked is opened again at next use
//!             │
//!             ▼ failed
//!          Resting ─▶ Connecting          not before the backoff has passed, and only when used
//! ```
//!
//! Nothing waits in `perform`: what comes while a connection is being opened queues, what comes
//! while the link rests fails at once, certainly not sent; the core decides where else to go.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use anatase_core::{AskTimestamps, Call, Failure, Input, Notice, StoreId};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;

use super::address::{Address, AddressError};
use super::body::Outgoing;
use super::calls::Flight;
use super::{Env, connection, tso, unary};
use crate::runtime::{Instant, Runtime};
use crate::signal::Signal;
use crate::transport::Inbox;

/// First wait after a failed attempt to connect, and the largest (client-go, `control-plane.md` §9.1).
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LARGEST_WAIT: Duration = Duration::from_secs(3);

/// 100 ms × 1.6ⁿ, at most 3 s, give or take a fifth so that clients do not knock in step.
fn wait_after(seed: u64, name: &str, failures: u32) -> Duration {
    let mut draw = DefaultHasher::new();
    (seed, name, failures).hash(&mut draw);
    let spread = 0.8 + 0.4 * (draw.finish() >> 32) as f64 / f64::from(u32::MAX);
    let grown = FIRST_WAIT.mul_f64(1.6_f64.powi(failures.min(16) as i32));
    grown.min(LARGEST_WAIT).mul_f64(spread)
}

/// Something to send.
pub(crate) enum Job {
    /// A unary call.
    Call(Call, Arc<Flight>),
    /// A request on the timestamp stream.
    Timestamps(AskTimestamps, Arc<Flight>),
}

impl Job {
    fn flight(&self) -> &Arc<Flight> {
        match self {
            Self::Call(_, flight) | Self::Timestamps(_, flight) => flight,
        }
    }
}

/// The way to one address.
pub(crate) struct Link<R: Runtime> {
    env: Arc<Env<R>>,
    /// As the core wrote it.
    name: Arc<str>,
    address: Result<Address, AddressError>,
    state: Mutex<State>,
    /// The store that was last addressed here; 0 for PD.
    store: AtomicU64,
    /// The timestamp streams, by whom PD should pass their requests on to: metadata belong to a
    /// stream.
    timestamps: Mutex<BTreeMap<Option<Arc<str>>, Arc<tso::Stream>>>,
    /// Raised when the link is dropped: whoever is opening a connection for it stops.
    dropped: Arc<Signal>,
}

enum State {
    Idle,
    Connecting {
        queue: VecDeque<Job>,
        /// The queue is searched for aborted jobs when it has grown to this length.
        sweep_at: usize,
        failures: u32,
    },
    Open {
        sender: Sender,
        busy: Busy,
    },
    Resting {
        until: Instant,
        failures: u32,
        why: Arc<str>,
    },
}

/// The sending side of an open connection.
#[derive(Clone)]
pub(crate) struct Sender {
    send: SendRequest<Outgoing>,
    authority: Authority,
}

/// What a request carries beside its message (`wire.md` §1).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Metadata<'a> {
    /// A follower of PD should pass the request on to this address.
    pub(crate) forward_to: Option<&'a str>,
    /// A follower of PD may answer.
    pub(crate) allow_follower: bool,
}

impl Metadata<'_> {
    fn put_into(self, headers: &mut HeaderMap) {
        // An address that is no header value was refused when it was parsed.
        if let Some(Ok(host)) = self.forward_to.map(HeaderValue::from_str) {
            headers.insert("pd-forwarded-host", host);
        }
        if self.allow_follower {
            headers.insert("pd-allow-follower-handle", HeaderValue::from_static(""));
        }
    }
}

/// Counts the calls on a connection: each holds one while it is out.
#[derive(Clone)]
pub(crate) struct Busy(Arc<()>);

impl Sender {
    pub(crate) fn request(
        &self,
        path: &'static str,
        timeout: Option<HeaderValue>,
        metadata: Metadata<'_>,
        body: Outgoing,
    ) -> Request<Outgoing> {
        static TE: HeaderValue = HeaderValue::from_static("trailers");
        static CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
        static USER_AGENT: HeaderValue =
            HeaderValue::from_static(concat!("anatase/", env!("CARGO_PKG_VERSION")));
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(http::header::TE, TE.clone());
        headers.insert(http::header::CONTENT_TYPE, CONTENT_TYPE.clone());
        headers.insert(http::header::USER_AGENT, USER_AGENT.clone());
        if let Some(timeout) = timeout {
            headers.insert("grpc-timeout", timeout);
        }
        metadata.put_into(&mut headers);
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(self.authority.clone());
        uri.path_and_query = Some(PathAndQuery::from_static(path));
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        *request.headers_mut() = headers;
        request
    }

    /// Hands a request to HTTP/2. The work is done by the time this returns; the future only waits.
    pub(crate) fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + Send + use<> {
        self.send.send_request(request)
    }
}

impl<R: Runtime> Link<R> {
    pub(crate) fn new(env: Arc<Env<R>>, name: Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            env,
            address: Address::parse(&name),
            name,
            state: Mutex::new(State::Idle),
            store: AtomicU64::new(0),
            timestamps: Mutex::default(),
            dropped: Arc::new(Signal::new()),
        })
    }

    /// Whether both lead to the same address, however it is written.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        matches!((&self.address, &other.address), (Ok(one), Ok(two)) if one == two)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends, queues or refuses. What is refused comes back as the answer.
    pub(crate) fn submit(
        self: &Arc<Self>,
        job: Job,
        store: Option<StoreId>,
        inbox: &Inbox,
    ) -> Option<Input> {
        let address = match &self.address {
            Ok(address) => address,
            Err(error) => return Some(self.refuse(&job, &format!("{:?} {error}", self.name))),
        };
        self.store.store(store.map_or(0, |store| store.0), Ordering::Relaxed);
        let mut state = self.lock();
        let failures = match &mut *state {
            State::Open { sender, busy } if !sender.send.is_closed() => {
                let (sender, busy) = (sender.clone(), busy.clone());
                drop(state);
                return self.start(job, sender, busy, inbox);
            }
            State::Connecting { queue, sweep_at, .. } => {
                if queue.len() >= *sweep_at {
                    queue.retain(|job| !job.flight().aborted.is_raised());
                    *sweep_at = (2 * queue.len()).max(64);
                }
                queue.push_back(job);
                return None;
            }
            State::Resting { until, why, .. } if self.env.runtime.now() < *until => {
                let why = why.clone();
                drop(state);
                return Some(self.refuse(&job, &why));
            }
            State::Resting { failures, .. } => *failures,
            State::Idle | State::Open { .. } => 0,
        };
        *state = State::Connecting { queue: VecDeque::from([job]), sweep_at: 64, failures };
        drop(state);
        let opening = Opening {
            link: Arc::downgrade(self),
            env: self.env.clone(),
            address: address.clone(),
            store: store.is_some(),
            dropped: self.dropped.clone(),
            inbox: inbox.clone(),
        };
        self.env.runtime.spawn(opening.run());
        None
    }

    fn start(&self, job: Job, mut sender: Sender, busy: Busy, inbox: &Inbox) -> Option<Input> {
        match job {
            Job::Call(call, flight) => {
                unary::start(&self.env, &mut sender, (call, flight), busy, inbox)
            }
            Job::Timestamps(ask, flight) => {
                let mut current = self.timestamps.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(stream) = current.get(&ask.forward_to)
                    && stream.ask(&ask, &flight)
                {
                    return None;
                }
                let stream = tso::Stream::new();
                stream.ask(&ask, &flight);
                current.insert(ask.forward_to.clone(), stream.clone());
                drop(current);
                tso::start(&self.env, stream, sender, (busy, ask.forward_to), inbox);
                None
            }
        }
    }

    fn refuse(&self, job: &Job, why: &str) -> Input {
        self.env.calls.finish(job.flight());
        Input::Response(job.flight().id, Err(Failure::not_sent(why)))
    }

    fn opened(&self, send: SendRequest<Outgoing>, authority: Authority, inbox: &Inbox) -> Busy {
        let sender = Sender { send, authority };
        let busy = Busy(Arc::new(()));
        let open = State::Open { sender: sender.clone(), busy: busy.clone() };
        let before = std::mem::replace(&mut *self.lock(), open);
        if let State::Connecting { queue, .. } = before {
            let live = queue.into_iter().filter(|job| !job.flight().aborted.is_raised());
            let refused: Vec<Input> = live
                .filter_map(|job| self.start(job, sender.clone(), busy.clone(), inbox))
                .collect();
            if !refused.is_empty() {
                inbox.deliver(refused);
            }
        }
        busy
    }

    fn failed(&self, why: &str, inbox: &Inbox) {
        let why: Arc<str> = format!("cannot connect to {}: {why}", self.name).into();
        let mut state = self.lock();
        let State::Connecting { queue, failures, .. } = &mut *state else {
            return;
        };
        let queue = std::mem::take(queue);
        let wait = wait_after(self.env.config.seed, &self.name, *failures);
        *state = State::Resting {
            until: self.env.runtime.now() + wait,
            failures: failures.saturating_add(1),
            why: why.clone(),
        };
        drop(state);
        let refused: Vec<Input> = queue
            .iter()
            .filter(|job| !job.flight().aborted.is_raised())
            .map(|job| self.refuse(job, &why))
            .collect();
        inbox.deliver(refused);
    }

    fn ended(&self, busy: &Busy, inbox: &Inbox) {
        let mut state = self.lock();
        match &*state {
            State::Open { busy: current, .. } if Arc::ptr_eq(&current.0, &busy.0) => {
                *state = State::Idle;
            }
            // Another connection has taken its place already.
            State::Open { .. } | State::Idle | State::Connecting { .. } | State::Resting { .. } => {
            }
        }
        drop(state);
        let store = self.store.load(Ordering::Relaxed);
        // Calls that were out tell the core themselves.
        if store != 0 && Arc::strong_count(&busy.0) == 1 {
            inbox.deliver([Input::Notice(Notice::LinkDown { store: StoreId(store) })]);
        }
    }
}

impl<R: Runtime> Drop for Link<R> {
    fn drop(&mut self) {
        self.dropped.raise();
        let streams = self.timestamps.get_mut().unwrap_or_else(PoisonError::into_inner);
        streams.values().for_each(|stream| stream.stop());
    }
}

/// The task that opens a connection and stays with it until it ends. It does not keep the link.
struct Opening<R: Runtime> {
    link: Weak<Link<R>>,
    env: Arc<Env<R>>,
    address: Address,
    store: bool,
    dropped: Arc<Signal>,
    inbox: Inbox,
}

impl<R: Runtime> Opening<R> {
    async fn run(self) {
        let opened = {
            let mut opening = pin!(connection::open(&self.env, &self.address, self.store));
            poll_fn(|cx| {
                if self.dropped.poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                opening.as_mut().poll(cx).map(Some)
            })
            .await
        };
        let Some(opened) = opened else { return };
        let Some(link) = self.link.upgrade() else { return };
        let (sender, connection) = match opened {
            Ok(opened) => opened,
            Err(why) => return link.failed(&why, &self.inbox),
        };
        let busy = link.opened(sender, self.address.authority.clone(), &self.inbox);
        drop(link);
        // Ends when the server hangs up, when keepalive gives it up, or when the link is dropped and
        // with it the last sender.
        let _ = connection.await;
        if let Some(link) = self.link.upgrade() {
            link.ended(&busy, &self.inbox);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// control-plane.md §5.2, §9.1: «connect backoff base 100 ms ×1.6 jitter 0.2 max 3 s», for stores and
    /// for PD (there, §14.1, from 1 s on).
    #[test]
    fn the_waits_between_attempts_to_connect() {
        for (failures, expected) in
            [(0, 100), (1, 160), (2, 256), (5, 1_048), (7, 2_684), (8, 3_000), (u32::MAX, 3_000)]
        {
            let waits: Vec<u64> = (0..1_000)
                .map(|seed| wait_after(seed, "a:1", failures).as_millis() as u64)
                .collect();
            let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
            let percent = |of: u64| expected * of / 100;
            assert!((percent(80) - 1..=percent(82)).contains(least), "{failures}: {least}");
            assert!((percent(118)..=percent(120) + 1).contains(most), "{failures}: {most}");
        }
    }
}
