use axum::body::{Body as HttpBody, to_bytes};
use axum::http::{Request, StatusCode};
use protocol::query::{Body, HealthView};
use protocol::{Code, NodeId, Time};
use tower::ServiceExt as _;

use super::*;
use crate::config::Config;
use crate::secret::Secret;

struct Story {
    troubles: Vec<String>,
}

#[async_trait]
impl DebugSource for Story {
    async fn query(&self, scope: Scope, query: Query) -> Vec<Answer> {
        let body = match query {
            Query::Tree => Body::Actor(Box::new(sample::tree())),
            Query::Health => Body::Health(Box::new(HealthView {
                ready: true,
                version: "0.1.0".into(),
                server: "2.11".into(),
                sync: "always".into(),
                replicas: 1,
                members: vec!["n1".into()],
                shards: vec![0],
                shards_in_all: 1,
                troubles: self.troubles.clone(),
                lost: Vec::new(),
                warnings: Vec::new(),
                happened: Vec::new(),
                since: Time::from_micros(0),
            })),
            Query::Owners => Body::Owners(Vec::new()),
            Query::Sagas { .. } => Body::Sagas(Vec::new()),
            Query::Workers { .. } => Body::Workers(Vec::new()),
            Query::Actor { .. } => Body::Nothing,
        };
        let one = sample::answer(body);
        match scope {
            Scope::Node => vec![one],
            Scope::Cluster => vec![one.clone(), Answer { node: NodeId::new("n2").unwrap(), ..one }],
        }
    }

    async fn saga(&self, saga: SagaId) -> Result<SagaView, Problem> {
        Err(Problem::new(Code::NotFound, format!("there is no saga {saga}")).mend("skald list"))
    }

    async fn history(&self, saga: SagaId) -> Result<History, Problem> {
        Ok(History { saga, entries: Vec::new(), cut: false })
    }

    async fn metrics(&self) -> String {
        "# EOF\n".into()
    }
}

async fn get(access: &Access, path: &str, headers: &[(&str, &str)]) -> (StatusCode, String, String) {
    let source = Arc::new(Story { troubles: Vec::new() });
    ask(router(source, access.clone()), path, headers).await
}

async fn ask(router: axum::Router, path: &str, headers: &[(&str, &str)]) -> (StatusCode, String, String) {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.oneshot(request.body(HttpBody::empty()).unwrap()).await.unwrap();
    let kind = response.headers().get("content-type").map_or("", |value| value.to_str().unwrap()).to_owned();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, kind, String::from_utf8(body.to_vec()).unwrap())
}

fn open() -> Access {
    Access::new("127.0.0.1:7070".parse().unwrap(), None).unwrap()
}

const LOCAL: (&str, &str) = ("host", "localhost:7070");

#[tokio::test]
async fn a_tree_comes_as_json_or_as_text() {
    let (status, kind, body) = get(&open(), "/tree", &[LOCAL]).await;
    assert_eq!((status, kind.as_str()), (StatusCode::OK, "application/json"));
    assert_eq!(serde_json::from_str::<Vec<Answer>>(&body).unwrap().len(), 1);
    let (_, kind, body) = get(&open(), "/tree?scope=cluster&format=text", &[LOCAL]).await;
    assert!(kind.starts_with("text/plain") && body.matches("node n1").count() == 2, "{body}");
    let (_, _, body) = get(&open(), "/tree", &[LOCAL, ("accept", "text/plain")]).await;
    assert!(body.starts_with("node n1"), "{body}");
    let (status, _, body) = get(&open(), "/tree?scope=galaxy", &[LOCAL]).await;
    assert!(status == StatusCode::BAD_REQUEST && body.contains("scope=cluster"), "{body}");
}

#[tokio::test]
async fn a_page_elsewhere_cannot_borrow_the_name_of_loopback() {
    for (host, expected) in [
        ("localhost", StatusCode::OK),
        ("127.0.0.1:7070", StatusCode::OK),
        ("[::1]:7070", StatusCode::OK),
        ("evil.example:7070", StatusCode::MISDIRECTED_REQUEST),
        ("localhost.evil.example", StatusCode::MISDIRECTED_REQUEST),
        ("192.0.2.1", StatusCode::MISDIRECTED_REQUEST),
    ] {
        assert_eq!(get(&open(), "/tree", &[("host", host)]).await.0, expected, "{host}");
    }
    assert_eq!(get(&open(), "/tree", &[]).await.0, StatusCode::MISDIRECTED_REQUEST, "no host at all");
}

/// Every route with a path that asks it, and one that is not there.
const ROUTES: [&str; 13] = [
    "/",
    "/tree",
    "/actor?path=shard-9",
    "/owners",
    "/sagas?tenant=acme",
    "/workers?tenant=acme&kind=health",
    "/saga/acme/x",
    "/saga/acme/x/history",
    "/healthz",
    "/readyz",
    "/metrics",
    "/nowhere",
    "/saga/acme/../../x",
];

#[tokio::test]
async fn every_route_is_closed_to_other_sites() {
    let other = [
        [("host", "localhost:7070"), ("origin", "https://evil.example")],
        [("host", "localhost:7070"), ("origin", "http://localhost:3000")],
        [("host", "localhost:7070"), ("origin", "null")],
        [("host", "localhost:7070"), ("sec-fetch-site", "cross-site")],
        [("host", "localhost:7070"), ("sec-fetch-site", "same-site")],
    ];
    for route in ROUTES {
        for headers in &other {
            assert_eq!(get(&open(), route, headers).await.0, StatusCode::FORBIDDEN, "{route} {headers:?}");
        }
        let ours = [("host", "localhost:7070"), ("origin", "http://localhost:7070"), ("sec-fetch-site", "same-origin")];
        assert_ne!(get(&open(), route, &ours).await.0, StatusCode::FORBIDDEN, "{route}");
        assert_eq!(get(&open(), route, &[("host", "evil")]).await.0, StatusCode::MISDIRECTED_REQUEST, "{route}");
    }
    let mut link = vec![LOCAL, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
    assert_eq!(get(&open(), "/", &link).await.0, StatusCode::FORBIDDEN, "in a frame");
    link.push(("sec-fetch-dest", "document"));
    assert_eq!(get(&open(), "/", &link).await.0, StatusCode::OK, "a link may be followed");
}

#[tokio::test]
async fn every_route_off_loopback_wants_the_token_and_leaks_nothing_without() {
    let access = Access::new("0.0.0.0:7070".parse().unwrap(), Some(&Secret::from("open-sesame"))).unwrap();
    for route in ROUTES {
        let (status, _, body) = get(&access, route, &[]).await;
        match route {
            "/" => assert!(status == StatusCode::OK && !body.contains("n1"), "the page holds no data"),
            "/healthz" | "/readyz" => assert_eq!((status, body.as_str()), (StatusCode::OK, "200 OK\n")),
            other => assert_eq!(status, StatusCode::UNAUTHORIZED, "{other}: {body}"),
        }
        for wrong in ["Bearer open-sesam", "Bearer open-sesame ", "open-sesame", "Basic open-sesame", "Bearer "] {
            let (wrong_status, _, wrong_body) = get(&access, route, &[("authorization", wrong)]).await;
            assert_eq!((wrong_status, &wrong_body), (status, &body), "{route} {wrong}");
        }
        let (status, _, _) = get(&access, route, &[("authorization", "Bearer open-sesame")]).await;
        assert_ne!(status, StatusCode::UNAUTHORIZED, "{route}");
    }
}

#[tokio::test]
async fn every_answer_says_what_may_be_done_with_it_and_nothing_can_be_changed() {
    let send = async |method: &str, route: &str| {
        let source = Arc::new(Story { troubles: Vec::new() });
        let request = Request::builder().method(method).uri(route).header("host", "localhost:7070");
        router(source, open()).oneshot(request.body(HttpBody::empty()).unwrap()).await.unwrap()
    };
    for route in ROUTES {
        let response = send("GET", route).await;
        let header = |name: &str| response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        assert_eq!(header("x-content-type-options"), "nosniff", "{route}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{route}");
        assert_eq!(header("cache-control"), "no-store", "{route}");
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(route == "/", policy.matches("'sha256-").count() == 2, "{route}: {policy}");
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let status = send(method, route).await.status();
            assert!([StatusCode::METHOD_NOT_ALLOWED, StatusCode::NOT_FOUND].contains(&status), "{method} {route}");
        }
    }
}

#[tokio::test]
async fn off_loopback_a_token_is_needed() {
    let bind = "0.0.0.0:7070".parse().unwrap();
    assert!(Access::new(bind, None).is_err());
    assert!(Access::new(bind, Some(&Secret::from(""))).is_err(), "an empty token is none");
    let access = Access::new(bind, Some(&Secret::from("open-sesame"))).unwrap();
    assert_eq!(get(&access, "/tree", &[]).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(get(&access, "/tree", &[("authorization", "Bearer nope")]).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(get(&access, "/tree", &[("authorization", "Bearer open-sesame")]).await.0, StatusCode::OK);
    let (status, _, body) = get(&access, "/healthz", &[]).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "200 OK\n"), "a probe learns the status only");
}

#[tokio::test]
async fn what_is_not_there_says_what_is() {
    let (status, _, body) = get(&open(), "/nowhere", &[LOCAL]).await;
    assert!(status == StatusCode::NOT_FOUND && body.contains("GET /tree"), "{body}");
    let (status, _, body) = get(&open(), "/saga/acme/install/7", &[LOCAL]).await;
    assert!(status == StatusCode::NOT_FOUND && body.contains("there is no saga acme/install/7"), "{body}");
    let (status, _, body) = get(&open(), "/saga/acme/install/7/history", &[LOCAL]).await;
    assert!(status == StatusCode::OK && body.contains("install/7"), "{body}");
    let (status, _, body) = get(&open(), "/actor?path=shard-9", &[LOCAL]).await;
    assert!(status == StatusCode::NOT_FOUND && body.contains("see /tree"), "{body}");
    let (status, _, body) = get(&open(), "/sagas", &[LOCAL]).await;
    assert!(status == StatusCode::BAD_REQUEST && body.contains("?tenant=acme"), "{body}");
}

#[tokio::test]
async fn a_request_that_is_too_large_is_told_so() {
    let limited = |limits| open().limited(limits);
    let (status, _, body) = get(&open(), &format!("/tree?x={}", "y".repeat(3_000)), &[LOCAL]).await;
    assert!(status == StatusCode::URI_TOO_LONG && body.contains("the limit is 2048"), "{body}");
    let cookies = "z".repeat(20_000);
    let (status, _, body) = get(&open(), "/tree", &[LOCAL, ("cookie", &cookies)]).await;
    assert!(status == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE && body.contains("fewer cookies"), "{body}");
    let narrow = limited(HttpLimits { uri_bytes: 3, ..HttpLimits::default() });
    assert_eq!(get(&narrow, "/tree", &[LOCAL]).await.0, StatusCode::URI_TOO_LONG);
    let source = Arc::new(Story { troubles: Vec::new() });
    let request = Request::get("/tree").header("host", "localhost").body(HttpBody::from("b".repeat(2_000))).unwrap();
    let response = router(source, open()).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_given_up() {
    struct Slow;
    #[async_trait]
    impl DebugSource for Slow {
        async fn query(&self, _: Scope, _: Query) -> Vec<Answer> {
            std::future::pending().await
        }
        async fn saga(&self, _: SagaId) -> Result<SagaView, Problem> {
            std::future::pending().await
        }
        async fn history(&self, _: SagaId) -> Result<History, Problem> {
            std::future::pending().await
        }
        async fn metrics(&self) -> String {
            std::future::pending().await
        }
    }
    let limits = HttpLimits { within: std::time::Duration::from_millis(20), ..HttpLimits::default() };
    let (status, _, body) = ask(router(Arc::new(Slow), open().limited(limits)), "/tree", &[LOCAL]).await;
    assert!(status == StatusCode::GATEWAY_TIMEOUT && body.contains("20 ms"), "{body}");
}

#[tokio::test]
async fn trouble_is_unhealthy_and_says_which() {
    let source = Arc::new(Story { troubles: vec!["the journal is full".into()] });
    let (status, _, body) = ask(router(source.clone(), open()), "/healthz", &[LOCAL]).await;
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && body.contains("the journal is full"), "{body}");
    assert_eq!(ask(router(source, open()), "/readyz", &[LOCAL]).await.0, StatusCode::OK);
}

#[tokio::test]
async fn metrics_carry_the_type_of_open_metrics() {
    let (_, kind, body) = get(&open(), "/metrics", &[LOCAL]).await;
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0") && body.ends_with("# EOF\n"), "{kind}");
}

#[tokio::test]
async fn it_is_served_on_a_socket_and_stops() {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let source = Arc::new(Story { troubles: Vec::new() });
    let bind = "127.0.0.1:0".parse().unwrap();
    let (address, served) =
        serve(bind, Access::new(bind, None).unwrap(), Config::default().debug_connections(), source, async {
            drop(stopped.await);
        })
        .await
        .unwrap();
    let page = reqwest::get(format!("http://{address}/")).await.unwrap().text().await.unwrap();
    assert!(page.contains("<title>Skald</title>"));
    stop.send(()).unwrap();
    served.await.unwrap();
}
