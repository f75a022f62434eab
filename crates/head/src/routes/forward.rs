//! Requests that a worker answers.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use vlinders_consumers::{Consumer, Refusal};
use vlinders_edge::{ApiError, Permit, RequestId, Running, Trace, UsageReport};

use crate::account::Account;
use crate::attempt::{Answer, AnswerBody, Told};
use crate::dispatch::Dispatch;
use crate::head::Head;
use crate::metrics::Outcome;
use crate::model::Model;
use crate::relay::{Held, Limits, Relay, shutting_down};
use crate::request::RoutedRequest;

/// What a worker is told of a request besides its body, its id and its trace; everything else, credentials first of all,
/// stays here.
const TO_WORKER: [HeaderName; 1] = [CONTENT_TYPE];

/// What a client is told by a worker.
const TO_CLIENT: [HeaderName; 4] =
    [CONTENT_TYPE, CACHE_CONTROL, RETRY_AFTER, HeaderName::from_static("x-accel-buffering")];

/// `user` keeps requests that name the same `user` at one worker.
const STICKY: HeaderName = HeaderName::from_static("x-vlinders-sticky");

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Send a request that came to `path` to the best worker, and its answer back.
pub(crate) async fn forward(
    State(head): State<Head>,
    path: &'static str,
    request: Request,
) -> Result<Response, ApiError> {
    let arrival = Instant::now();
    let config = head.config();
    let id = request.extensions().get::<RequestId>().map_or("", RequestId::as_str).to_owned();
    let headers = worker_headers(&request, &id);
    let trace = Trace::begun(&request);
    let consumer = request.extensions().get::<Consumer>().cloned().unwrap_or_else(Consumer::anonymous);
    let receiving = trace.stage("receive");
    let is_sticky = request.headers().get(&STICKY).is_some_and(|by| by == "user");
    let (body, lease) = head.bodies().read_json_text(request).await?;
    let mut request = RoutedRequest::read(path, headers, body, lease)?;
    request.is_sticky = is_sticky;
    drop(receiving);
    let permit = head.admission().try_admit()?;
    let model = find(&head, request.model.as_deref()).await?;
    let running = Running::new(id, consumer.id().into(), Arc::clone(&model.offer.name), arrival);
    let listed = head.running().list(running);
    let mut account = Account::open(&head, path, Arc::clone(&model.metrics), listed, trace.clone());
    if let Some(limiter) = head.limiter() {
        match limiter.admit(&consumer, request.estimated_tokens()).await {
            Ok(grant) => account.charge(grant),
            Err(refusal) => return Ok(refuse(refusal, &mut account)),
        }
    }
    let deadline = tokio::time::Instant::from_std(arrival + config.request_timeout);
    let dispatch = Dispatch {
        client: head.fleet().client(),
        queue: &config.queue,
        retry_after: config.retry_after,
        metrics: &model.metrics,
        trace: &trace,
        listed: account.request(),
    };
    let sent = tokio::select! {
        sent = dispatch.send(&model, &request) => sent,
        () = tokio::time::sleep_until(deadline) => {
            Err(Told::Error(ApiError::deadline_exceeded(config.request_timeout)))
        }
        () = head.ending().cancelled() => Err(Told::Error(shutting_down(config.retry_after))),
    };
    let answer = match sent {
        Ok(answer) => answer,
        Err(Told::Answer(answer)) => *answer,
        Err(Told::Error(error)) => {
            account.fail(error.kind().status(), error.to_string());
            let mut response = error.into_response();
            account.write_limits(response.headers_mut());
            return Ok(response);
        }
    };
    account.count(answer.usage);
    let limits = Limits {
        deadline,
        timeout: config.request_timeout,
        retry_after: config.retry_after,
        ending: head.ending().clone().cancelled_owned(),
    };
    Ok(respond(answer, account, permit, limits))
}

/// A head that has just started may not know a model yet whose workers it has not asked.
async fn find(head: &Head, asked: Option<&str>) -> Result<Arc<Model>, ApiError> {
    match head.fleet().model(asked) {
        Err(_) if !head.fleet().settled().is_cancelled() => {
            head.settled().await;
            head.fleet().model(asked)
        }
        found => found,
    }
}

/// The consumer has had what it may.
fn refuse(refusal: Refusal, account: &mut Account) -> Response {
    let (error, headers) = refusal.into_error();
    account.fail(error.kind().status(), error.to_string());
    let mut response = error.into_response();
    response.headers_mut().extend(headers);
    response
}

fn respond(answer: Answer, mut account: Account, permit: Permit, limits: Limits) -> Response {
    let Answer { status, headers, body, .. } = answer;
    let mut limits_shown = HeaderMap::new();
    account.write_limits(&mut limits_shown);
    let body = match body {
        AnswerBody::Whole(whole) => {
            account.first_byte();
            if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
                account.fail(status, message(&whole));
            } else {
                account.end(Outcome::Finished, status);
            }
            Body::from(whole)
        }
        AnswerBody::Stream { first, events, rest, in_flight } => {
            let held = Held { in_flight, account, permit };
            Body::new(Relay::new(first, events, rest, held, limits))
        }
    };
    let mut response = body.into_response();
    *response.status_mut() = status;
    let shown = response.headers_mut();
    shown.extend(limits_shown);
    shown.remove(CONTENT_TYPE);
    for name in TO_CLIENT {
        if let Some(value) = headers.get(&name) {
            shown.insert(name, value.clone());
        }
    }
    response
}

/// The sentence of an error answer.
fn message(body: &Bytes) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body["error"]["message"].as_str().unwrap_or("the worker said nothing more").to_owned()
}

fn worker_headers(request: &Request, id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in TO_WORKER {
        if let Some(value) = request.headers().get(&name) {
            headers.insert(name, value.clone());
        }
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    UsageReport::ask(&mut headers);
    headers
}
