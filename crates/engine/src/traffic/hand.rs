//! A clock that stands still until a test moves it.

use std::sync::Mutex;
use std::time::Duration;

use datamesh_core::time::Timestamp;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::world::Clock;

#[derive(Default)]
pub(super) struct Hand(Mutex<Duration>);

impl Hand {
    pub(super) fn advance(&self, time: Duration) {
        *self.0.lock().expect("no holder panics") += time;
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(0)
    }

    fn elapsed(&self) -> Duration {
        *self.0.lock().expect("no holder panics")
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }
}
