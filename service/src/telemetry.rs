//! Logs, metrics and health, the same for every service. Every metric is listed in `docs/telemetry.md`, which a test
//! compares with the metrics of running services.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;

use driftline_settings::{Settings, table};

/// Starts logging to standard error: readable text, or JSON with `DRIFTLINE_LOG_FORMAT=json`; level by `DRIFTLINE_LOG`,
/// for example `info` or `info,librdkafka=warn` for the Kafka client's own log lines.
pub fn start_logs(settings: &mut Settings) {
    let filter = settings.get(&table::LOG);
    let json = settings.choice(&table::LOG_FORMAT, &[("text", false), ("json", true)]).unwrap_or(false);
    let Ok(filter) = tracing_subscriber::EnvFilter::try_new(&filter) else {
        settings.refuse(
            &table::LOG,
            format_args!("{filter:?}"),
            "is not a log filter like info or warn,driftline=debug",
        );
        return;
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call in one process keeps the first subscriber; that happens in tests only.
    let _ = if json {
        builder.json().try_init()
    } else {
        builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
    };
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
}

/// Metrics and readiness of one service.
#[derive(Debug, Clone)]
pub struct Telemetry {
    registry: Registry,
    /// Reason why the service is not ready.
    unready: Arc<Mutex<Option<&'static str>>>,
    /// Held while metrics are gathered, and while related metrics change.
    together: Arc<Mutex<()>>,
}

impl Telemetry {
    /// An empty registry; every metric name begins with `driftline_`, every sample has a label with the service.
    #[must_use]
    pub fn new(service: &str) -> Self {
        let labels = [("service".to_owned(), service.to_owned())].into_iter().collect();
        let registry = Registry::new_custom(Some("driftline".to_owned()), Some(labels)).unwrap_or_default();
        Self { registry, unready: Arc::new(Mutex::new(Some("starting"))), together: Arc::default() }
    }

    /// Registers a counter.
    ///
    /// # Errors
    /// When the name is taken or malformed.
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        let counter = IntCounter::new(name, help)?;
        self.registry.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    /// Registers a counter with labels.
    ///
    /// # Errors
    /// When the name is taken or malformed.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(counters.clone()))?;
        Ok(counters)
    }

    /// Registers a gauge.
    ///
    /// # Errors
    /// When the name is taken or malformed.
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        let gauge = IntGauge::new(name, help)?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    /// Registers a histogram of seconds, from 0.5 ms to 16 s.
    ///
    /// # Errors
    /// When the name is taken or malformed.
    pub fn seconds(&self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        let buckets = prometheus::exponential_buckets(0.0005, 2.0, 16)?;
        let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
        self.registry.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }

    /// Changes made while this is held are seen by a scrape as a whole or not at all.
    pub fn together(&self) -> MutexGuard<'_, ()> {
        self.together.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `/readyz` return 200 from now on.
    pub fn set_ready(&self) {
        *self.unready.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Makes `/readyz` return 503 and this reason from now on.
    pub fn set_unready(&self, why: &'static str) {
        *self.unready.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Serves `/metrics`, `/healthz` and `/readyz` in the background.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn serve(&self, address: SocketAddr) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            let text = format!("cannot serve telemetry on {address}: {error}; set DRIFTLINE_TELEMETRY_ADDR");
            std::io::Error::new(error.kind(), text)
        })?;
        let bound = listener.local_addr()?;
        let telemetry = self.clone();
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => telemetry.clone().answer(TokioIo::new(stream)),
                    Err(error) => {
                        tracing::warn!(%error, "telemetry connection failed");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Ok(bound)
    }

    fn answer(self, stream: TokioIo<tokio::net::TcpStream>) {
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = self.respond(&request);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(stream, service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "telemetry client went away");
            }
        });
    }

    fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, body) = match request.uri().path() {
            "/metrics" => self.metrics_text(),
            "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => self.readiness(),
            _ => (StatusCode::NOT_FOUND, "try /metrics, /healthz or /readyz\n".to_owned()),
        };
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        response
    }

    fn readiness(&self) -> (StatusCode, String) {
        match *self.unready.lock().unwrap_or_else(PoisonError::into_inner) {
            None => (StatusCode::OK, "ready\n".to_owned()),
            Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        }
    }

    fn metrics_text(&self) -> (StatusCode, String) {
        let gathered = {
            let _together = self.together();
            self.registry.gather()
        };
        TextEncoder::new()
            .encode_to_string(&gathered)
            .map_or_else(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()), |text| (StatusCode::OK, text))
    }
}
