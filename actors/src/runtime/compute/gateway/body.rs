//! Bodies on their way through.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use super::table::Lease;
use crate::permits::Permit;

/// The body of a request, which can be sent again as long as nothing of it was read.
#[derive(Clone)]
pub struct Lent {
    inner: Arc<Mutex<Incoming>>,
    touched: Arc<AtomicBool>,
}

impl Lent {
    /// Nothing of it was read yet.
    pub fn new(inner: Incoming) -> Self {
        Self { inner: Arc::new(Mutex::new(inner)), touched: Arc::default() }
    }

    /// Whether some of it may be gone.
    pub fn is_spent(&self) -> bool {
        self.touched.load(Ordering::Acquire)
    }

    fn with<T>(&self, look: impl FnOnce(&mut Incoming) -> T) -> T {
        look(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.touched.store(true, Ordering::Release);
        self.with(|inner| Pin::new(inner).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.with(|inner| inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|inner| inner.size_hint())
    }
}

/// The body of an answer. Its replica counts as busy and its request as under way until the last byte is
/// through, or the client went away.
pub struct Through {
    inner: Incoming,
    held: Option<(Lease, Permit)>,
}

impl Through {
    /// From the replica of the lease.
    pub fn new(inner: Incoming, held: (Lease, Permit)) -> Self {
        // Hyper does not ask a body that is empty.
        let held = (!inner.is_end_stream()).then_some(held);
        Self { inner, held }
    }
}

impl Body for Through {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(None | Some(Err(_))) = polled {
            self.held = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
