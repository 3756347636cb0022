//! The system's clock, randomness and processors, as the engine's world wants them.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use datamesh_core::time::Timestamp;
use datamesh_engine::world::{Clock, Compute, Entropy};
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;

/// The system's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Clocks that count from now.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // A clock before 1970 is as wrong as one at 1970, and the latter is a timestamp.
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_ms(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}

/// The system's random generator.
#[derive(Debug, Clone, Copy)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the kernel's random generator works once the system is up");
    }
}

/// The system's processors: a thread for each, which all jobs take turns on. They end when the last user is gone.
#[derive(Debug, Clone)]
pub struct SystemCompute {
    jobs: Sender<Job>,
}

/// A job, and whom to tell how it ended.
struct Job {
    run: Box<dyn FnOnce() + Send>,
    ended: oneshot::Sender<thread::Result<()>>,
}

impl SystemCompute {
    /// All processors that this process may use.
    ///
    /// # Panics
    /// If the system has no more threads.
    #[must_use]
    pub fn all() -> Self {
        let count = thread::available_parallelism().map_or(1, NonZero::get);
        let (jobs, waiting) = channel::<Job>();
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..count {
            let waiting = Arc::clone(&waiting);
            let named = thread::Builder::new().name(format!("compute-{number}"));
            named.spawn(move || work(&waiting)).expect("the system has threads left");
        }
        Self { jobs }
    }
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { run, ended }) = next else { return };
        // Whoever waited may have gone; a panic is passed on to who waits, and the thread goes on.
        let _ = ended.send(catch_unwind(AssertUnwindSafe(run)));
    }
}

impl Compute for SystemCompute {
    fn run(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let (ended, end) = oneshot::channel();
        let sent = self.jobs.send(Job { run: job, ended });
        async move {
            sent.expect("the threads are there as long as someone may send to them");
            if let Err(panic) = end.await.expect("a job that has begun is run to its end") {
                resume_unwind(panic);
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datamesh_engine::world::Compute;

    use super::SystemCompute;

    #[tokio::test]
    async fn a_job_returns_its_result() {
        let compute: Arc<dyn Compute> = Arc::new(SystemCompute::all());
        let sums = (0..100_u64).map(|number| compute.output(move || (0..=number).sum::<u64>()));
        assert_eq!(futures::future::join_all(sums).await[99], 4950);
    }

    #[tokio::test]
    async fn a_job_gets_a_processor_though_those_before_it_are_not_polled() {
        let compute: Arc<dyn Compute> = Arc::new(SystemCompute::all());
        let mut waiting: Vec<_> = (0..100).map(|_| compute.run(Box::new(|| {}))).collect();
        for job in &mut waiting {
            let _ = futures::poll!(job);
        }
        let last = compute.output(|| 7);
        let patience = std::time::Duration::from_secs(20);
        assert_eq!(tokio::time::timeout(patience, last).await.expect("it is not held up"), 7);
    }

    #[tokio::test]
    #[should_panic(expected = "a broken job")]
    async fn a_job_that_panics_is_not_waited_for_in_vain() {
        let compute: Arc<dyn Compute> = Arc::new(SystemCompute::all());
        compute.output(|| panic!("a broken job")).await;
    }
}
