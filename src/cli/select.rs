//! Waiting for the first of two things.

use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;

pub(super) enum Either<A, B> {
    A(A),
    B(B),
}

/// Waits for the first of the two, and drops the other. When both are there, it is `a`.
pub(super) async fn race<A: Future, B: Future>(a: A, b: B) -> Either<A::Output, B::Output> {
    let (mut a, mut b) = (pin!(a), pin!(b));
    poll_fn(|cx| {
        if let Poll::Ready(a) = a.as_mut().poll(cx) {
            return Poll::Ready(Either::A(a));
        }
        b.as_mut().poll(cx).map(Either::B)
    })
    .await
}
