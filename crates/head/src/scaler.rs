//! KEDA asks here how many workers a model needs, so that the first one can be started by the first request.
//!
//! What is counted are requests: those that wait in this head and in others, and those that the workers have.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use self::proto::external_scaler_server::{ExternalScaler, ExternalScalerServer};
use self::proto::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef,
};
use crate::head::Head;
use crate::model::Model;

mod proto {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::allow_attributes_without_reason,
        rustdoc::all,
        reason = "generated from KEDA's interface"
    )]
    tonic::include_proto!("externalscaler");
}

/// Metadata of a trigger: the name of the model, and how many requests one replica is to have.
const MODEL: &str = "model";
const TARGET: &str = "targetRequests";
const DEFAULT_TARGET: i64 = 16;

/// The one metric.
const METRIC: &str = "vlinders-requests";

/// Between two looks at whether a model is asked for.
const LOOK: Duration = Duration::from_millis(200);

struct Scaler {
    head: Head,
}

/// Answer KEDA on `listener` until the head leaves.
pub async fn serve_scaler(listener: TcpListener, head: Head) {
    let leaving = head.leaving().clone();
    let service = ExternalScalerServer::new(Scaler { head });
    let served = tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), leaving.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "autoscalers are not answered any more");
    }
}

// === impl Scaler ===

impl Scaler {
    #[allow(clippy::result_large_err, reason = "that is the error of tonic")]
    fn model(&self, object: &ScaledObjectRef) -> Result<Arc<Model>, Status> {
        let name = object.scaler_metadata.get(MODEL).ok_or_else(|| {
            let message = format!(
                "the trigger of '{}' names no model; add `{MODEL}: NAME` to its metadata",
                object.name
            );
            Status::invalid_argument(message)
        })?;
        self.head.fleet().model(Some(name)).map_err(|error| Status::not_found(error.to_string()))
    }
}

#[tonic::async_trait]
impl ExternalScaler for Scaler {
    async fn is_active(
        &self,
        object: Request<ScaledObjectRef>,
    ) -> Result<Response<IsActiveResponse>, Status> {
        let model = self.model(object.get_ref())?;
        let result = self.head.num_requests(&model) > 0;
        Ok(Response::new(IsActiveResponse { result }))
    }

    type StreamIsActiveStream = Pin<Box<dyn Stream<Item = Result<IsActiveResponse, Status>> + Send>>;

    async fn stream_is_active(
        &self,
        object: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let model = self.model(object.get_ref())?;
        let head = self.head.clone();
        let changes = futures::stream::unfold((model, None), move |(model, told)| {
            let head = head.clone();
            async move {
                loop {
                    let active = head.num_requests(&model) > 0;
                    if told != Some(active) {
                        return Some((Ok(IsActiveResponse { result: active }), (model, Some(active))));
                    }
                    tokio::select! {
                        () = tokio::time::sleep(LOOK) => {}
                        () = head.leaving().cancelled() => return None,
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(changes)))
    }

    async fn get_metric_spec(
        &self,
        object: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let object = object.get_ref();
        self.model(object)?;
        let target_size = match object.scaler_metadata.get(TARGET) {
            None => DEFAULT_TARGET,
            Some(text) => text.parse().ok().filter(|target| *target > 0).ok_or_else(|| {
                Status::invalid_argument(format!("`{TARGET}: {text}` is no whole number above 0"))
            })?,
        };
        let spec =
            MetricSpec { metric_name: METRIC.to_owned(), target_size, target_size_float: target_size as f64 };
        Ok(Response::new(GetMetricSpecResponse { metric_specs: vec![spec] }))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let GetMetricsRequest { scaled_object_ref, metric_name } = request.get_ref();
        let object = scaled_object_ref
            .as_ref()
            .ok_or_else(|| Status::invalid_argument("the request names no scaled object"))?;
        let requests = self.head.num_requests(&*self.model(object)?);
        let value = MetricValue {
            metric_name: metric_name.clone(),
            metric_value: i64::try_from(requests).unwrap_or(i64::MAX),
            metric_value_float: requests as f64,
        };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }
}

#[cfg(test)]
mod tests;
