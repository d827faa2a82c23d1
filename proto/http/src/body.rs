//! Bodies that say in which phase their connection is.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::{place::Place, table::Phase};

/// Failure of a request's body.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It has not come in time.
    #[error("the body of the request has not come in time")]
    TimedOut,
    /// The connection failed.
    #[error("the body of the request cannot be received")]
    Connection(#[source] hyper::Error),
}

impl BodyError {
    /// Returns whether an error is, or was caused by, a body that has not come in time.
    #[must_use]
    pub fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
        let mut causes = std::iter::successors(Some(error), |error| error.source());
        causes.any(|cause| matches!(cause.downcast_ref(), Some(Self::TimedOut)))
    }
}

/// The body of a request, with a time limit for the whole.
#[derive(Debug)]
pub struct RequestBody {
    incoming: Incoming,
    place: Arc<Place>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, place: Arc<Place>, limit: Duration) -> Self {
        let has_arrived = incoming.is_end_stream();
        place.enter(if has_arrived { Phase::Handling } else { Phase::Body });
        let deadline = (!has_arrived).then(|| Box::pin(sleep(limit)));
        Self { incoming, place, deadline }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                if frame.is_none() || self.incoming.is_end_stream() {
                    self.place.body_ended();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Connection)))
            }
            Poll::Pending => {
                let Some(deadline) = &mut self.deadline else { return Poll::Pending };
                ready!(deadline.as_mut().poll(cx));
                self.place.body_timed_out();
                Poll::Ready(Some(Err(BodyError::TimedOut)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.place.body_ended();
    }
}

/// The body of a response.
#[derive(Debug)]
pub(crate) struct ResponseBody<B> {
    body: B,
    place: Arc<Place>,
}

impl<B> ResponseBody<B> {
    pub(crate) fn new(body: B, place: Arc<Place>) -> Self {
        place.enter(Phase::Response);
        Self { body, place }
    }
}

impl<B: Body + Unpin> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for ResponseBody<B> {
    fn drop(&mut self) {
        self.place.enter(Phase::KeepAlive);
    }
}
