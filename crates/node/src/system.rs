//! The system's clock, randomness and processors, as the engine's world wants them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use datamesh_core::time::Timestamp;
use datamesh_engine::world::{Clock, Compute, Entropy};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;

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

/// The system's processors: as many jobs run at once as there are, on threads that may block.
#[derive(Debug, Clone)]
pub struct SystemCompute {
    processors: Arc<Semaphore>,
}

impl SystemCompute {
    /// All processors that this process may use.
    #[must_use]
    pub fn all() -> Self {
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { processors: Arc::new(Semaphore::new(count)) }
    }
}

impl Compute for SystemCompute {
    fn run(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let processors = Arc::clone(&self.processors);
        // A task of its own takes the processor: were it given to a future that nobody polls for now, because what would poll
        // it waits for a processor too, nobody would ever move.
        let task = tokio::spawn(async move {
            let permit = processors.acquire_owned().await.expect("nobody closes the semaphore");
            let run = move || {
                job();
                drop(permit);
            };
            tokio::task::spawn_blocking(run).await
        });
        async move {
            if let Err(error) = task.await.flatten()
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
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
