//! Traces: sends the spans of requests to a collector by OTLP, and lets no request wait for it.
//!
//! Spans that have ended wait in a bounded queue for a thread of its own, which posts them in batches. What the collector does not take is
//! dropped: traces are for looking at, and nothing depends on them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::KeyValue;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_http::{HeaderExtractor, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider};
use tracing::{Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;
use ureq::Agent;
use ureq::http::HeaderMap;

use crate::settings::WebAddress;
use crate::web_agent::agent;

/// What a collector knows the program by.
const SERVICE: &str = "datamesh";
/// Spans that may wait to be posted; more of them are dropped.
const SPANS_WAITING_MAX: usize = 4096;
/// Spans that are posted at once.
const BATCH_LENGTH_MAX: usize = 512;
/// How long spans wait for others to be posted with.
const POST_EVERY: Duration = Duration::from_secs(2);
/// How long the collector may take to answer.
const POST_DEADLINE: Duration = Duration::from_secs(5);
/// How long the program waits at its end until the last spans are posted.
const CLOSE_DEADLINE: Duration = Duration::from_secs(3);
/// The longest answer of a collector that is read, bytes.
const ANSWER_SIZE_MAX: u64 = 64 * 1024;

/// Why no spans can be sent.
#[derive(Debug, thiserror::Error)]
#[error("spans can't be sent to the address of gateway.traces")]
pub struct StartTracesError(#[from] ExporterBuildError);

/// Sends spans to a collector, until it is closed.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Sends to this address; to nobody, if there is none.
    ///
    /// # Errors
    /// [`StartTracesError`] when the exporter does not take the address, or what its own environment variables say.
    pub fn start(collector: &WebAddress) -> Result<Option<Self>, StartTracesError> {
        let Some(address) = collector.get() else { return Ok(None) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector { agent: agent(POST_DEADLINE), failing: AtomicBool::new(false) })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(address)
            .with_timeout(POST_DEADLINE)
            .build()?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(SPANS_WAITING_MAX)
            .with_max_export_batch_size(BATCH_LENGTH_MAX)
            .with_scheduled_delay(POST_EVERY)
            .build();
        let resource = Resource::builder_empty()
            .with_service_name(SERVICE)
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .with_resource(resource)
            .build();
        Ok(Some(Self(provider)))
    }

    /// What takes the spans of this program's own crates; neither their events, whose texts may name what was put, nor what other libraries
    /// tell.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let own = |metadata: &Metadata<'_>| metadata.is_span() && metadata.target().starts_with(SERVICE);
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer(SERVICE))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            // A request's route, and so the name of its span, is known only after the span was entered.
            .with_context_activation(false)
            .with_filter(filter_fn(own))
    }

    /// Posts what waits still, for a short while at most.
    ///
    /// # Cancel safety
    /// It is posted all the same when dropped, while the process lives.
    pub async fn close(self) {
        let closing = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(CLOSE_DEADLINE));
        if !matches!(closing.await, Ok(Ok(()))) {
            tracing::warn!("the last spans did not reach the collector");
        }
    }
}

/// Makes a span part of the trace that a caller names by the W3C's headers `traceparent` and `tracestate`.
pub fn adopt(span: &Span, headers: &HeaderMap) {
    let caller = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    if caller.span().span_context().is_valid() {
        // Where nobody sends spans, there is nothing to be part of.
        let _ = span.set_parent(caller);
    }
}

/// Posts batches. Asked by the thread of the queue alone, which it may hold up.
#[derive(Debug)]
struct Collector {
    agent: Agent,
    /// Whether the last batch was not taken: that is told once, and not for each.
    failing: AtomicBool,
}

impl Collector {
    fn post(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let mut answer = self.agent.run(request.map(|body| body.to_vec()))?;
        let body = answer.body_mut().with_config().limit(ANSWER_SIZE_MAX).read_to_vec()?;
        Ok(answer.map(|_| body.into()))
    }

    fn note(&self, outcome: &Result<Response<Bytes>, ureq::Error>) {
        let why = match outcome {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answered with status {}", answer.status().as_u16())),
            Err(error) => Some(error.to_string()),
        };
        let was_failing = self.failing.swap(why.is_some(), Ordering::Relaxed);
        if let Some(why) = why.filter(|_| !was_failing) {
            tracing::warn!(why, "the collector of gateway.traces takes no spans; they are dropped");
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let outcome = self.post(request);
        self.note(&outcome);
        Ok(outcome?)
    }
}
