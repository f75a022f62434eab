//! As KEDA asks, over gRPC.

use std::sync::Arc;

use futures::StreamExt;
use tonic::Code;

use super::proto::external_scaler_client::ExternalScalerClient;
use super::*;
use crate::config::{HeadConfig, OfferedModel, QueueConfig, Stickiness};
use crate::discovery::{FixedDiscovery, Pool};
use crate::head::HeadParts;
use crate::metrics::HeadMetrics;

fn object(metadata: &[(&str, &str)]) -> ScaledObjectRef {
    let pairs = metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    ScaledObjectRef { name: "workers".into(), namespace: "vlinders".into(), scaler_metadata: pairs.collect() }
}

/// A head that offers a model and has no workers.
fn head() -> Head {
    let offer = OfferedModel {
        name: "m".into(),
        aliases: Vec::new(),
        max_model_len: None,
        stickiness: Stickiness::Prefix,
    };
    let config = HeadConfig { models: Some(vec![offer]), ..HeadConfig::default() };
    let pool = Arc::new(Pool { name: "p".into(), weight: 1 });
    let nobody = FixedDiscovery { pool, addresses: Vec::new() };
    Head::new(
        config,
        HeadParts { workers: vec![Box::new(nobody)], ..HeadParts::default() },
        Arc::new(HeadMetrics::new()),
    )
    .unwrap()
}

#[tokio::test]
async fn keda_learns_of_the_first_request() {
    let head = head();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(serve_scaler(listener, head.clone()));
    let mut keda = ExternalScalerClient::connect(url).await.unwrap();

    let model = object(&[("model", "m"), ("targetRequests", "8")]);
    let spec = keda.get_metric_spec(model.clone()).await.unwrap().into_inner().metric_specs.remove(0);
    assert_eq!(
        (spec.metric_name.as_str(), spec.target_size, spec.target_size_float),
        ("vlinders-requests", 8, 8.0)
    );
    let default = keda.get_metric_spec(object(&[("model", "m")])).await.unwrap().into_inner();
    assert_eq!(default.metric_specs[0].target_size, 16);

    let mut pushed = keda.stream_is_active(model.clone()).await.unwrap().into_inner();
    assert!(!pushed.next().await.unwrap().unwrap().result);
    assert!(!keda.is_active(model.clone()).await.unwrap().into_inner().result);

    // Three requests wait for a worker that is not there.
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let model = head.fleet().model(Some("m")).unwrap();
            let queue = QueueConfig { max_waiting: 9, timeout: Duration::from_secs(60) };
            tokio::spawn(async move { model.wait(&queue, Duration::from_secs(1), || None::<()>).await })
        })
        .collect();
    assert!(pushed.next().await.unwrap().unwrap().result, "pushed, not only asked for");
    assert!(keda.is_active(model.clone()).await.unwrap().into_inner().result);
    let ask = GetMetricsRequest { scaled_object_ref: Some(model.clone()), metric_name: spec.metric_name };
    let mut value = 0;
    while value < 3 {
        value = keda.get_metrics(ask.clone()).await.unwrap().into_inner().metric_values[0].metric_value;
    }
    assert_eq!(value, 3);
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    assert!(!pushed.next().await.unwrap().unwrap().result);

    for (metadata, code) in [
        (object(&[]), Code::InvalidArgument),
        (object(&[("model", "other")]), Code::NotFound),
        (object(&[("model", "m"), ("targetRequests", "none")]), Code::InvalidArgument),
        (object(&[("model", "m"), ("targetRequests", "0")]), Code::InvalidArgument),
    ] {
        assert_eq!(keda.get_metric_spec(metadata).await.unwrap_err().code(), code);
    }
    let nothing = GetMetricsRequest { scaled_object_ref: None, metric_name: String::new() };
    assert_eq!(keda.get_metrics(nothing).await.unwrap_err().code(), Code::InvalidArgument);

    head.leaving().cancel();
    serving.await.unwrap();
    assert!(pushed.next().await.is_none_or(|end| end.is_err()));
}

#[tokio::test]
async fn whichever_head_is_asked_knows_what_waits_in_all() {
    let mut heads = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let head = head();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.push(listener.local_addr().unwrap().to_string());
        tokio::spawn(crate::serve(listener, head.clone(), std::future::pending()));
        heads.push(head);
    }
    // As a DNS name gives them: all, and one that is gone.
    addresses.push("127.0.0.1:1".to_owned());
    for head in &heads {
        let pool = Arc::new(Pool { name: "heads".into(), weight: 1 });
        head.follow_peers(Box::new(FixedDiscovery { pool, addresses: addresses.clone() }));
    }
    let model = heads[0].fleet().model(Some("m")).unwrap();
    let waiting = tokio::spawn(async move {
        let queue = QueueConfig { max_waiting: 9, timeout: Duration::from_secs(60) };
        model.wait(&queue, Duration::from_secs(1), || None::<()>).await
    });
    let count = |head: &Head| head.num_requests(&head.fleet().model(Some("m")).unwrap());
    while count(&heads[1]) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((count(&heads[0]), count(&heads[1])), (1, 1), "none counts itself twice");
    waiting.abort();
    while count(&heads[1]) == 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
