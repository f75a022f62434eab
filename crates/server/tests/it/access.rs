//! Keys, web pages, request ids.

use reqwest::{Method, StatusCode};
use serde_json::json;
use vlinders_edge::{ApiKeys, CorsOrigins};

use crate::support::{TestServer, chat_body, read};

#[tokio::test]
async fn only_a_known_key_opens_the_api() {
    let server =
        TestServer::with(|config, _| config.api_keys = Some(ApiKeys::parse("sk-1\nsk-2").unwrap())).await;
    let guarded = [
        (Method::POST, "/v1/chat/completions"),
        (Method::POST, "/v1/completions"),
        (Method::GET, "/v1/models"),
        (Method::GET, "/v1/models/parrot"),
        (Method::POST, "/tokenize"),
        (Method::POST, "/detokenize"),
    ];
    for (method, path) in guarded {
        let response = server.request(method.clone(), path).send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let (status, answer) = read(response).await;
        assert_eq!((status, answer["error"]["code"].as_str()), (401, Some("missing_api_key")), "{path}");
        let (status, answer) =
            read(server.request(method, path).bearer_auth("sk-3").send().await.unwrap()).await;
        assert_eq!((status, answer["error"]["code"].as_str()), (401, Some("invalid_api_key")), "{path}");
    }
    for path in ["/health", "/ready", "/metrics", "/version", "/openapi.json"] {
        assert_eq!(
            server.request(Method::GET, path).send().await.unwrap().status(),
            StatusCode::OK,
            "{path}"
        );
    }
    for key in ["sk-1", "sk-2"] {
        let request = server.request(Method::POST, "/v1/chat/completions").bearer_auth(key);
        let response = request.json(&chat_body("x", json!({}))).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn web_pages_may_call_from_listed_origins_only() {
    let server = TestServer::with(|config, _| {
        config.cors = CorsOrigins::parse(["https://chat.example.org"]).unwrap();
        // Browsers send preflight requests without a key.
        config.api_keys = Some(ApiKeys::parse("sk-1").unwrap());
    })
    .await;
    let preflight = |origin: &'static str| {
        server
            .request(Method::OPTIONS, "/v1/chat/completions")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type")
            .send()
    };
    let listed = preflight("https://chat.example.org").await.unwrap();
    assert_eq!(listed.status(), StatusCode::OK);
    assert_eq!(listed.headers()["access-control-allow-origin"], "https://chat.example.org");
    assert_eq!(listed.headers()["access-control-allow-headers"], "authorization,content-type");
    let other = preflight("https://evil.example.org").await.unwrap();
    assert!(!other.headers().contains_key("access-control-allow-origin"));
    // An error must be readable by the page too.
    let refused =
        server.request(Method::GET, "/v1/models").header("origin", "https://chat.example.org").send().await;
    let refused = refused.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(refused.headers()["access-control-allow-origin"], "https://chat.example.org");
}

#[tokio::test]
async fn without_origins_there_is_no_cors() {
    let server = TestServer::start().await;
    let response =
        server.request(Method::GET, "/v1/models").header("origin", "https://a.org").send().await.unwrap();
    assert!(!response.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn a_request_id_is_repeated_or_made() {
    let server = TestServer::start().await;
    let sent = server.request(Method::GET, "/health").header("x-request-id", "abc-1").send().await.unwrap();
    assert_eq!(sent.headers()["x-request-id"], "abc-1");
    let made = server.request(Method::GET, "/nowhere").send().await.unwrap();
    assert_eq!(made.headers()["x-request-id"].len(), 32);
}
