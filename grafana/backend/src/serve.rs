//! The handshake of HashiCorp's go-plugin, and which function answers which method.
//!
//! Grafana starts the program with a cookie in its environment, reads one line from its standard output, which says where to connect, and
//! speaks gRPC there. Invariant: the socket is this machine's alone, and nothing else is written to standard output.

use std::convert::Infallible;
use std::future::Future;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, http};
use tonic::server::{Grpc, ServerStreamingService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::protocol::{Empty, HealthCheckResponse};
use crate::source::Sources;
use crate::{data, health, live, resource};

/// Grafana's, by which a plugin knows that no person has started it.
const COOKIE: (&str, &str) = ("grafana_plugin_type", "datasource");

/// Of go-plugin itself, and of Grafana's protocol.
const VERSIONS: &str = "1|2";

/// Set by a host that wants TLS on the socket, which Grafana's does not.
const HOSTS_CERTIFICATE: &str = "PLUGIN_CLIENT_CERT";

const SERVING: i32 = 1;

const LAST_ANSWER: Duration = Duration::from_millis(100);

const LOOK_FOR_PARENT: Duration = Duration::from_secs(5);

/// The most that Grafana may send in one message: a panel's queries with the values of its variables.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Answers until Grafana says that it is over.
pub async fn serve() -> Result<(), String> {
    if std::env::var(COOKIE.0).as_deref() != Ok(COOKIE.1) {
        return Err(
            "this program is a plugin that Grafana starts by itself: put its folder among Grafana's plugins"
                .to_string(),
        );
    }
    if std::env::var_os(HOSTS_CERTIFICATE).is_some_and(|certificate| !certificate.is_empty()) {
        return Err(format!(
            "Grafana asks for TLS between itself and its plugins ({HOSTS_CERTIFICATE}), which this plugin does not speak"
        ));
    }
    let listening = async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        writeln!(std::io::stdout(), "{VERSIONS}|tcp|{address}|grpc")?;
        std::io::stdout().flush()?;
        Ok::<_, std::io::Error>(listener)
    };
    let listener = listening.await.map_err(|error| format!("no socket for Grafana: {error}"))?;
    let doors = Arc::new(Doors::default());
    let ended = Arc::clone(&doors);
    let service = tower::service_fn(move |request| {
        let doors = Arc::clone(&doors);
        async move { Ok::<_, Infallible>(doors.answer(request).await) }
    });
    let server = tonic::transport::Server::builder();
    tokio::select! {
        served = server.serve_with_incoming(service, TcpListenerStream::new(listener)) => {
            served.map_err(|error| format!("Grafana cannot be served any more: {error}"))
        }
        () = ended.over() => Ok(()),
        () = orphaned() => Err("Grafana has gone without a word".to_string()),
    }
}

/// Ends when the process that started this one is no more: it may have had no time to ask for an end.
async fn orphaned() {
    let parent = std::os::unix::process::parent_id();
    while std::os::unix::process::parent_id() == parent {
        tokio::time::sleep(LOOK_FOR_PARENT).await;
    }
}

#[derive(Default)]
struct Doors {
    sources: Arc<Sources>,
    shutdown: Notify,
}

impl Doors {
    /// Ends soon after the request to end, when its answer is on its way: streams that are open end with the program.
    async fn over(&self) {
        self.shutdown.notified().await;
        tokio::time::sleep(LAST_ANSWER).await;
    }

    async fn answer(&self, request: http::Request<Body>) -> http::Response<Body> {
        let sources = &self.sources;
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/pluginv2.Data/QueryData" => unary(request, sources, data::query_data).await,
            "/pluginv2.Diagnostics/CheckHealth" => unary(request, sources, health::check_health).await,
            "/pluginv2.Resource/CallResource" => streaming(request, sources, resource::call_resource).await,
            "/pluginv2.Stream/SubscribeStream" => unary(request, sources, live::subscribe_stream).await,
            "/pluginv2.Stream/RunStream" => streaming(request, sources, live::run_stream).await,
            "/pluginv2.Stream/PublishStream" => unary(request, sources, live::publish_stream).await,
            "/grpc.health.v1.Health/Check" => {
                unary(request, sources, |_, _: Empty| async { Ok(HealthCheckResponse { status: SERVING }) })
                    .await
            }
            "/plugin.GRPCController/Shutdown" => {
                self.shutdown.notify_one();
                unary(request, sources, |_, asked: Empty| async move { Ok(asked) }).await
            }
            _ => Status::unimplemented(format!("this plugin has no {path}")).into_http(),
        }
    }
}

/// A stream of messages, or why there are no more.
pub type Messages<T> = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

struct Method<F>(Arc<Sources>, F);

impl<F, A, Q, R> UnaryService<Q> for Method<F>
where
    F: Fn(Arc<Sources>, Q) -> A,
    A: Future<Output = Result<R, Status>> + Send + 'static,
{
    type Response = R;
    type Future = BoxFuture<Response<R>, Status>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let answered = (self.1)(Arc::clone(&self.0), request.into_inner());
        Box::pin(async move { answered.await.map(Response::new) })
    }
}

async fn unary<F, A, Q, R>(
    request: http::Request<Body>,
    sources: &Arc<Sources>,
    method: F,
) -> http::Response<Body>
where
    F: Fn(Arc<Sources>, Q) -> A,
    A: Future<Output = Result<R, Status>> + Send + 'static,
    Q: prost::Message + Default + 'static,
    R: prost::Message + Default + 'static,
{
    let codec = ProstCodec::<R, Q>::default();
    let mut grpc = Grpc::new(codec).max_decoding_message_size(MESSAGE_BYTES_MAX);
    grpc.unary(Method(Arc::clone(sources), method), request).await
}

struct StreamMethod<F>(Arc<Sources>, F);

impl<F, A, Q, R> ServerStreamingService<Q> for StreamMethod<F>
where
    F: Fn(Arc<Sources>, Q) -> A,
    A: Future<Output = Result<Messages<R>, Status>> + Send + 'static,
{
    type Response = R;
    type ResponseStream = Messages<R>;
    type Future = BoxFuture<Response<Messages<R>>, Status>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let answered = (self.1)(Arc::clone(&self.0), request.into_inner());
        Box::pin(async move { answered.await.map(Response::new) })
    }
}

async fn streaming<F, A, Q, R>(
    request: http::Request<Body>,
    sources: &Arc<Sources>,
    method: F,
) -> http::Response<Body>
where
    F: Fn(Arc<Sources>, Q) -> A,
    A: Future<Output = Result<Messages<R>, Status>> + Send + 'static,
    Q: prost::Message + Default + 'static,
    R: prost::Message + Default + 'static,
{
    let codec = ProstCodec::<R, Q>::default();
    let mut grpc = Grpc::new(codec).max_decoding_message_size(MESSAGE_BYTES_MAX);
    grpc.server_streaming(StreamMethod(Arc::clone(sources), method), request).await
}
