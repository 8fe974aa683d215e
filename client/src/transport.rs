//! What a whole RPC stack must offer.
//!
//! [`Http2`](crate::http2::Http2) is the transport of the client over any
//! [`Runtime`](crate::Runtime). Whoever brings another stack, a simulator for example, implements
//! [`Transport`] instead and never sees a socket of ours.

use std::fmt;
use std::sync::{Arc, Weak};

use anatase_core::{Command, Input};

/// Performs commands.
pub trait Transport: Send + Sync + 'static {
    /// Takes all `commands` and starts performing them, in their order where they go to one
    /// destination. Never blocks, and never delivers from within: answers go to `inbox` from a task
    /// or thread of the transport's own, before or after this call returns.
    ///
    /// Commands that two threads took from the core may arrive here in either order: an
    /// [`Command::Abort`] before its call, in the worst case, which then runs to its end for nothing.
    ///
    /// Each [`Command::Call`] and [`Command::Timestamps`] is answered once unless a
    /// [`Command::Abort`] comes first. The transport keeps no deadlines and retries nothing: the
    /// core withdraws what has taken too long and decides what is sent again.
    fn perform(&self, commands: &mut Vec<Command>, inbox: &Inbox);

    /// The client is done: nothing will be performed and nothing delivered any more. Connections
    /// and tasks should end.
    fn shutdown(&self) {}
}

/// Where a transport delivers answers and news. Cheap to clone; does not keep the client alive.
#[derive(Clone)]
pub struct Inbox(Weak<dyn Deliver>);

/// The receiving side of an [`Inbox`].
pub(crate) trait Deliver: Send + Sync {
    fn deliver(&self, inputs: &mut dyn Iterator<Item = Input>);
}

impl<F: Fn(Input) + Send + Sync> Deliver for F {
    fn deliver(&self, inputs: &mut dyn Iterator<Item = Input>) {
        inputs.for_each(self);
    }
}

impl Inbox {
    pub(crate) fn new(driver: Weak<dyn Deliver>) -> Self {
        Self(driver)
    }

    /// An inbox that hands every input to `receive`, to test a transport by itself. It works for as
    /// long as the caller keeps `receive`.
    pub fn to_fn<F: Fn(Input) + Send + Sync + 'static>(receive: &Arc<F>) -> Self {
        let receive: Weak<F> = Arc::downgrade(receive);
        Self(receive)
    }

    /// Delivers [`Input::Response`]s and [`Input::Notice`]s, all under one lock: deliver together
    /// what has arrived together. Inputs of other kinds are not a transport's to give and are
    /// dropped. The iterator should be cheap, so decode before, not in it.
    ///
    /// Does nothing once the client is gone.
    pub fn deliver(&self, inputs: impl IntoIterator<Item = Input>) {
        if let Some(driver) = self.0.upgrade() {
            driver.deliver(&mut inputs.into_iter());
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}
