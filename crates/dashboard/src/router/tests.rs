//! What the routes answer, asked without a socket.

use std::time::{Duration, SystemTime};

use axum::body::Body;
use http::header::{ETAG, IF_NONE_MATCH, LOCATION};
use http::{Request, StatusCode};
use tower::ServiceExt;

use super::*;
use crate::{
    Circuit, Dashboard, DashboardOptions, ErrorView, HistogramTotals, ModelView, RequestView, Role, Source,
    Stage, Totals, WorkerState, WorkerView,
};

const EVIL: &str = "<script>alert(1)</script>\"'&";

/// A source that always says the same.
struct Still(Snapshot);

impl Source for Still {
    fn snapshot(&self) -> Snapshot {
        self.0.clone()
    }
}

fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

/// Every text is `word`.
fn snapshot_of(word: &str) -> Snapshot {
    let text = || word.to_owned();
    let histogram = || HistogramTotals { bounds: vec![0.1, 1.0], counts: vec![5, 5, 0] };
    Snapshot {
        role: Role::Head,
        version: text(),
        started: long_ago(),
        models: vec![ModelView {
            name: text(),
            aliases: vec![text()],
            ready_workers: 1,
            workers: 2,
            running: 3,
            kv_usage: 0.5,
            totals: Totals {
                first_token: histogram(),
                between_tokens: histogram(),
                generation_tokens: 1000,
                ..Totals::default()
            },
            ..ModelView::default()
        }],
        workers: vec![WorkerView {
            id: text(),
            address: text(),
            model: text(),
            state: WorkerState::Stalled,
            why: Some(text()),
            ranks: 2,
            running: 1,
            waiting: 0,
            kv_usage: 0.25,
            in_flight: 1,
            circuit: Circuit::HalfOpen,
            load_progress: None,
            phases: vec![(text(), Duration::from_secs(3)), (text(), Duration::from_secs(1))],
            version: text(),
            since: long_ago(),
        }],
        requests: vec![RequestView {
            id: text(),
            model: text(),
            consumer: text(),
            worker: Some(text()),
            age: Duration::from_millis(12_340),
            stage: Stage::Decode,
            tokens: 17,
        }],
        errors: vec![ErrorView {
            time: long_ago(),
            model: Some(text()),
            worker: Some(text()),
            request_id: text(),
            status: 503,
            message: text(),
        }],
    }
}

fn router_of(snapshot: Snapshot) -> Router {
    Dashboard::new(Arc::new(Still(snapshot)), DashboardOptions::default()).router()
}

async fn send(router: &Router, request: Request<Body>) -> (StatusCode, http::HeaderMap, String) {
    let response = router.clone().oneshot(request).await.expect("an answer");
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 1 << 22).await.expect("a body");
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).expect("text"))
}

async fn get(router: &Router, path: &str) -> (StatusCode, http::HeaderMap, String) {
    send(router, Request::get(path).body(Body::empty()).expect("a request")).await
}

const PAGES: [&str; 5] = ["", "workers", "requests", "errors", "playground"];
const FRAGMENTS: [&str; 4] = ["overview", "workers", "requests", "errors"];

#[tokio::test]
async fn no_text_of_others_becomes_markup() {
    let router = router_of(snapshot_of(EVIL));
    let paths = PAGES.map(str::to_owned).into_iter();
    let paths = paths.chain(FRAGMENTS.map(|page| format!("fragment/{page}")));
    for path in
        paths.chain(["?model=%3Cscript%3Ealert(1)%3C/script%3E%22&range=%3Cscript%3Ealert(1)".to_owned()])
    {
        let (status, _, body) = get(&router, &format!("/dashboard/{path}")).await;
        assert_eq!(status, 200, "{path}");
        assert!(!body.contains("<script>"), "{path}:\n{body}");
        assert!(!body.contains("\"'&"), "{path}:\n{body}");
        assert!(
            body.contains("&#60;script&#62;alert(1)") || body.contains("%3Cscript%3E"),
            "{path}:\n{body}"
        );
    }
}

#[tokio::test]
async fn every_answer_has_the_policy_and_live_ones_are_not_kept() {
    let router = router_of(snapshot_of("a"));
    let paths = ["", "workers", "fragment/overview", "api/snapshot", "api/history", "nowhere", "assets/x.js"];
    for path in paths {
        let (_, headers, _) = get(&router, &format!("/dashboard/{path}")).await;
        assert_eq!(headers[CONTENT_SECURITY_POLICY], POLICY, "{path}");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        assert_eq!(headers[REFERRER_POLICY], "no-referrer", "{path}");
        assert_eq!(headers[CACHE_CONTROL], "no-store", "{path}");
    }
    assert!(POLICY.contains("default-src 'none'") && !POLICY.contains("unsafe") && !POLICY.contains("  "));
}

#[tokio::test]
async fn pages_have_nothing_inline() {
    let router = router_of(snapshot_of("a"));
    for page in PAGES {
        let (_, _, body) = get(&router, &format!("/dashboard/{page}")).await;
        for inline in [" style=", "<style", " onclick=", "javascript:", "http://", "https://"] {
            assert!(!body.contains(inline), "{page} has {inline}");
        }
        assert_eq!(body.matches("<script").count(), body.matches("<script src=\"assets/").count(), "{page}");
    }
}

#[tokio::test]
async fn assets_are_named_after_their_content() {
    let router = router_of(snapshot_of("a"));
    let (_, _, page) = get(&router, "/dashboard/").await;
    let links = page.split('"').filter(|text| text.starts_with("assets/")).map(str::to_owned);
    let links: Vec<_> = links.collect();
    assert_eq!(links.len(), 4, "{links:?}");
    for link in links {
        let path = format!("/dashboard/{link}");
        let (status, headers, body) = get(&router, &path).await;
        assert_eq!((status, body.is_empty()), (StatusCode::OK, false), "{link}");
        assert_eq!(headers[CACHE_CONTROL], "private, max-age=31536000, immutable");
        let tag = headers[ETAG].to_str().expect("text").to_owned();
        for (sent, expected) in
            [(tag.clone(), 304), (format!("\"x\", W/{tag}"), 304), ("\"x\"".to_owned(), 200)]
        {
            let request = Request::get(&path).header(IF_NONE_MATCH, &sent).body(Body::empty());
            let (status, headers, _) = send(&router, request.expect("a request")).await;
            assert_eq!(status, expected, "{sent}");
            assert_eq!(headers[ETAG], tag);
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let router = router_of(snapshot_of("a"));
    for (path, is_page) in [
        ("/dashboard/nowhere", true),
        ("/dashboard/nowhere/else", false),
        ("/dashboard/assets/style.css", false),
        ("/dashboard/assets/../style.css", false),
        ("/dashboard/api/nothing", false),
        ("/dashboard/fragment/playground", false),
        ("/elsewhere", false),
    ] {
        let (status, _, body) = get(&router, path).await;
        assert_eq!((status.as_u16(), body.starts_with("<!doctype")), (404, is_page), "{path}: {body}");
    }
    let request = Request::post("/dashboard/workers").body(Body::empty()).expect("a request");
    assert_eq!(send(&router, request).await.0, 405);
}

#[tokio::test]
async fn pages_lie_where_the_host_wants_them() {
    for (base, at, expected, api) in [
        ("/dashboard", "/dashboard", Some("dashboard/"), "../v1/"),
        ("a/b/", "/a/b", Some("b/"), "../../v1/"),
        ("/", "/", None, "\"v1/"),
    ] {
        let options = DashboardOptions { base_path: base.to_owned(), ..DashboardOptions::default() };
        let router = Dashboard::new(Arc::new(Still(snapshot_of("a"))), options).router();
        let (status, headers, _) = get(&router, at).await;
        let location = headers.get(LOCATION).map(|value| value.to_str().expect("text"));
        assert_eq!(
            (status.as_u16(), location),
            (if expected.is_some() { 308 } else { 200 }, expected),
            "{base}"
        );
        let (status, _, body) = get(&router, &format!("{}/playground", at.trim_end_matches('/'))).await;
        assert_eq!(status, 200, "{base}");
        assert!(body.contains(&format!("{api}chat/completions")), "{base}:\n{body}");
    }
}

#[tokio::test]
async fn the_key_is_asked_for_only_where_it_is_needed() {
    for api_needs_key in [false, true] {
        let options = DashboardOptions { api_needs_key, ..DashboardOptions::default() };
        let router = Dashboard::new(Arc::new(Still(snapshot_of("a"))), options).router();
        let (_, _, body) = get(&router, "/dashboard/playground").await;
        assert_eq!(body.contains("type=\"password\""), api_needs_key);
    }
}

#[tokio::test]
async fn programs_get_json() {
    let router = router_of(snapshot_of("a"));
    let (_, _, body) = get(&router, "/dashboard/api/snapshot").await;
    let json: serde_json::Value = serde_json::from_str(&body).expect("json");
    assert_eq!(json["role"], "head");
    assert_eq!(json["started"], 1_700_000_000.0);
    assert_eq!(json["workers"][0]["circuit"], "half-open");
    assert_eq!(json["workers"][0]["phases"][0], serde_json::json!(["a", 3.0]));
    assert_eq!(json["requests"][0]["age"], 12.34);
    let (_, _, body) = get(&router, "/dashboard/api/history?range=5m").await;
    let json: serde_json::Value = serde_json::from_str(&body).expect("json");
    assert_eq!((&json["step_seconds"], &json["models"][0]["name"]), (&5.into(), &"a".into()));
    assert_eq!(json["models"][0]["points"].as_array().map(Vec::len), Some(1));
    assert_eq!(json["models"][0]["points"][0]["running"], 3.0);
    let (_, _, body) = get(&router, "/dashboard/api/history?model=b").await;
    assert_eq!(body, r#"{"step_seconds":5,"models":[]}"#);
    let (status, _, body) = get(&router, "/dashboard/api/history?range=2h").await;
    assert_eq!(status, 400, "{body}");
}

#[tokio::test]
async fn what_is_shown_is_bounded() {
    let mut snapshot = snapshot_of("a");
    snapshot.requests = vec![snapshot.requests[0].clone(); 5000];
    snapshot.errors = (0..5000u64)
        .map(|idx| ErrorView {
            time: long_ago() + Duration::from_secs(idx),
            request_id: format!("r{idx}"),
            ..snapshot.errors[0].clone()
        })
        .collect();
    let router = router_of(snapshot);
    let (_, _, requests) = get(&router, "/dashboard/fragment/requests").await;
    assert_eq!(requests.matches("<tr>").count(), 1 + 200);
    let (_, _, errors) = get(&router, "/dashboard/fragment/errors").await;
    assert_eq!(errors.matches("<tr>").count(), 1 + 100);
    assert!(errors.contains("r4999") && errors.contains("r4900") && !errors.contains("r4899"));
}

#[tokio::test]
async fn the_errors_look_like_this() {
    let router = router_of(snapshot_of("it's <b>"));
    let (_, _, body) = get(&router, "/dashboard/fragment/errors").await;
    insta::assert_snapshot!(body);
}

#[tokio::test]
async fn sampling_goes_on_while_a_router_is_there_and_then_ends() {
    struct Counting(std::sync::atomic::AtomicUsize);
    impl Source for Counting {
        fn snapshot(&self) -> Snapshot {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            snapshot_of("a")
        }
    }
    let source = Arc::new(Counting(0.into()));
    let router = Dashboard::new(Arc::clone(&source) as Arc<dyn Source>, DashboardOptions::default()).router();
    for _ in 0..600 {
        if source.0.load(std::sync::atomic::Ordering::Relaxed) >= 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(source.0.load(std::sync::atomic::Ordering::Relaxed) >= 3);
    drop(router);
    assert_eq!(Arc::strong_count(&source), 1, "the task that samples has to let go");
}
