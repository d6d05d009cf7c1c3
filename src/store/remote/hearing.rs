//! Whether the store is heard on a connection.
//!
//! A store that pauses and a network that loses everything look the same from here: calls go out
//! and nothing comes in. So a connection that is silent is not cut, which would take their answers
//! from the calls on it; it is only no longer trusted with new ones.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    time::{Instant, sleep_until},
};

/// How long nothing may be heard after something was asked. Long enough that a store whose every
/// call takes its time does not get a new connection for each, and short enough that the first
/// three times that the system sends lost data again, within 1.4 seconds, come before it: a gap
/// that these bridge needs no new connection.
const SILENCE: Duration = Duration::from_secs(2);

/// What is asked on one connection and heard on it. Clones are the same one.
#[derive(Clone, Default)]
pub(super) struct Hearing(watch::Sender<State>);

#[derive(Default)]
struct State {
    /// How many calls wait for the head of their answer.
    calls: usize,
    /// Since when something was asked and nothing heard. A call that was given up still counts: it
    /// was not answered.
    asked: Option<Instant>,
    heard: bool,
}

impl Hearing {
    /// A call is about to be sent.
    pub(super) fn call(&self) -> Call {
        self.0.send_if_modified(|state| {
            state.calls += 1;
            let first = state.asked.is_none();
            state.asked.get_or_insert_with(Instant::now);
            // Whoever waits for silence looks again by themselves at what was asked before.
            first
        });
        Call(self.clone())
    }

    /// Bytes have come in.
    fn receive(&self) {
        self.0.send_if_modified(|state| {
            state.asked = (state.calls > 0).then(Instant::now);
            !std::mem::replace(&mut state.heard, true)
        });
    }

    /// Resolves when the first bytes have come in.
    pub(super) async fn first_byte(&self) {
        let _ = self.0.subscribe().wait_for(|state| state.heard).await;
    }

    /// Resolves when something was asked and nothing heard since, for [`SILENCE`].
    pub(super) async fn silence(&self) {
        let mut state = self.0.subscribe();
        // The channel is not closed: a sender is here.
        while let Ok(asked) = state.wait_for(|state| state.asked.is_some()).await.map(|s| s.asked) {
            let Some(end) = asked.map(|asked| asked + SILENCE) else { continue };
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

/// A call that waits for the head of its answer.
pub(super) struct Call(Hearing);

impl Call {
    /// The answer is there.
    pub(super) fn answered(self) {
        self.0.0.send_if_modified(|state| {
            // The last one: nobody waits to hear more.
            if state.calls == 1 {
                state.asked = None;
            }
            false
        });
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.0.send_if_modified(|state| {
            state.calls -= 1;
            false
        });
    }
}

/// A stream that tells a [`Hearing`] when bytes have come in.
pub(super) struct Heard<T> {
    stream: T,
    hearing: Hearing,
}

impl<T> Heard<T> {
    pub(super) fn new(stream: T, hearing: Hearing) -> Self {
        Self { stream, hearing }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Heard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.hearing.receive();
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Heard<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    /// How long it takes until the silence is noticed; a minute is for ever.
    async fn noticed(hearing: &Hearing) -> Option<Duration> {
        let start = Instant::now();
        let end = tokio::time::timeout(Duration::from_secs(60), hearing.silence()).await;
        end.is_ok().then(|| start.elapsed())
    }

    fn about(expected: Duration, seen: Option<Duration>) {
        assert!(seen.is_some_and(|seen| seen.abs_diff(expected) < 10 * SOON), "{seen:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nobody_asks_is_not_silent() {
        let hearing = Hearing::default();
        assert_eq!(noticed(&hearing).await, None);
        hearing.call().answered();
        assert_eq!(noticed(&hearing).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_is_silence_even_if_it_is_given_up() {
        let hearing = Hearing::default();
        let call = hearing.call();
        about(SILENCE, noticed(&hearing).await);
        drop(call);
        let hearing = Hearing::default();
        drop(hearing.call());
        about(SILENCE, noticed(&hearing).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_heard_ends_it_and_it_begins_again_for_the_calls_that_wait() {
        let hearing = Hearing::default();
        let (answered, waits) = (hearing.call(), hearing.call());
        tokio::time::advance(SILENCE - SOON).await;
        hearing.receive();
        answered.answered();
        about(SILENCE, noticed(&hearing).await);
        hearing.receive();
        waits.answered();
        assert_eq!(noticed(&hearing).await, None);
        // One that was given up, and then something was heard.
        drop(hearing.call());
        hearing.receive();
        assert_eq!(noticed(&hearing).await, None);
    }
}
