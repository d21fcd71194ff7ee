//! Texts: definitions, manifests, requests, answers, names.

use super::bytes;

/// A definition with what the stories' own do not have.
pub const MIXED: &str = r#"
name: mixed
description: Every kind of state that the others lack.
access: { start: ["*"], view: ["*"], signal: [ops], cancel: [ops] }
retention: { succeeded: 7d, failed: 30d }
onCancel: undo
hidden: [Told]
labels: { "Choose -> Rest": "too many" }
definition:
  StartAt: Choose
  TimeoutSeconds: 3600
  States:
    Choose:
      Type: Choice
      Assign: { seen: "{% $states.input %}" }
      Choices:
        - { Condition: "{% $states.input.go > 200 %}", Next: Rest, Comment: many }
        - { Condition: "{% $count($states.input.items) > 2 %}", Next: Each }
      Default: Work
    Rest: { Type: Wait, Timestamp: "2026-02-01T00:00:00Z", Next: Work }
    Each:
      Type: Map
      Items: "{% $states.input.items %}"
      ToleratedFailurePercentage: 50
      ItemSelector: { n: "{% $states.context.Map.Item.Index %}" }
      ItemProcessor:
        StartAt: One
        States:
          One:
            Type: Task
            Resource: activity:ledger.write
            Compensate: { Resource: activity:ledger.erase, Arguments: "{% $states.input %}", TimeoutSeconds: 5 }
            Retry: [{ ErrorEquals: [States.ALL], MaxAttempts: 2, BackoffRate: 2, MaxDelaySeconds: 9, JitterStrategy: FULL }]
            HeartbeatSeconds: 3
            End: true
      Catch: [{ ErrorEquals: [States.ALL], Next: Back, Output: "{% $states.errorOutput.Cause %}" }]
      Next: Work
    Work:
      Type: Parallel
      Branches:
        - { StartAt: A, States: { A: { Type: Task, Resource: "signal:go", TimeoutSeconds: 60, End: true } } }
        - { StartAt: B, States: { B: { Type: Task, Resource: "saga:three", End: true } } }
        - { StartAt: C, States: { C: { Type: Fail, Error: "{% 'E' & 1 %}", Cause: no } } }
      Catch: [{ ErrorEquals: [E1], Next: Back }]
      Next: Told
    Back: { Type: Compensate, Next: Told }
    Told: { Type: Task, Resource: "event:MixedTold", Arguments: { at: "{% $now() %}" }, Next: Done }
    Done: { Type: Pass, Output: "{% $merge([$states.input, {'x': $random()}]) %}", End: true }
"#;

/// Definitions, right and wrong.
pub fn definitions() -> Vec<Vec<u8>> {
    let mut all = bytes(crate::definitions::ALL);
    all.push(MIXED.into());
    all.extend(bytes(&[
        r#"{"name":"j","definition":{"StartAt":"A","States":{"A":{"Type":"Succeed"}}}}"#,
        "StartAt: A\nStates: { A: { Type: Pass, End: true } }",
        "name: a\nname: b\ndefinition: &d { StartAt: A, States: { A: { Type: Pass, Next: *d } } }",
        "a: &a [*a]",
        "&a a: *a",
        "name: !!python/object:os.system x",
        "%YAML 1.2\n---\nname: x\n...\n---\nname: y",
        "name: x\ndefinition: {StartAt: A, States: {A: {Type: Wait, Seconds: .nan, End: true}}}",
        "name: x\ndefinition: {StartAt: A, TimeoutSeconds: 1e308, States: {A: {Type: Wait, Seconds: 1e308, End: true}}}",
        "name: x\ndefinition: {StartAt: A, States: {A: {Type: Pass, Output: '{% $pad(\"x\", 1e9) %}', End: true}}}",
        "name: x\ndefinition: {StartAt: A, States: {A: {Type: Pass, Next: B}, B: {Type: Choice, Choices: [{Condition: true, Next: A}], Default: C}, C: {Type: Succeed}}}",
        "name: \"\\u0000\"\n\t- x",
        "? {a: b}\n: c",
        "\u{feff}name: x",
        "name: |\n  x\n y",
        "retention: { succeeded: 99999999999999999999d, failed: -1s }",
        "{",
        "[[[[",
        "\r\n\r\n",
        "labels: { \"A -> B -> C\": \"[*] --> [*]\\n```\" }",
    ]));
    let mut laughs = String::from("name: lol\na0: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n");
    for n in 1..12 {
        let uses = vec![format!("*a{}", n - 1); 9].join(",");
        laughs.push_str(&format!("a{n}: &a{n} [{uses}]\n"));
    }
    all.push(laughs.into());
    // A few anchors of much text, each used often: what multiplies is bytes, not values.
    let text = "x".repeat(60_000);
    all.push(format!("name: t\na: &a \"{text}\"\nb: [{}]\n", vec!["*a"; 40_000].join(",")).into());
    // Anchors inside anchors, none of them used: what multiplies is what is kept for later.
    let nested: String = (0..100).map(|n| format!("[&n{n} ")).collect();
    all.push(format!("name: n\na: {nested}1{}, {}\n", "]".repeat(100), "1,".repeat(50_000)).into());
    let wide: String = (0..20_000).map(|n| format!("k{n}: 1\n")).collect();
    all.push(wide.into());
    let states: String = (0..999).map(|n| format!("    S{n}: {{ Type: Pass, Next: S{} }}\n", n + 1)).collect();
    all.push(
        format!("name: long\ndefinition:\n  StartAt: S0\n  States:\n{states}    S999: {{ Type: Succeed }}\n").into(),
    );
    for depth in [100, 119, 121, 50_000] {
        all.push([b"name: d\na: ".to_vec(), vec![b'['; depth], vec![b']'; depth]].concat());
    }
    all.push([b"name: d\n".to_vec(), b"- ".repeat(100_000)].concat());
    let mut scopes = String::from("{ Type: Succeed }");
    for _ in 0..20 {
        scopes = format!("{{ Type: Parallel, End: true, Branches: [{{ StartAt: A, States: {{ A: {scopes} }} }}] }}");
    }
    all.push(format!("name: deep\ndefinition: {{ StartAt: A, States: {{ A: {scopes} }} }}").into());
    let expression = format!("{}1{}", "(".repeat(5_000), ")".repeat(5_000));
    all.push(format!("name: e\ndefinition: {{StartAt: A, States: {{A: {{Type: Pass, Output: '{{% {expression} %}}', End: true}}}}}}").into());
    all
}

/// Manifests, right and wrong.
pub fn manifests() -> Vec<Vec<u8>> {
    let mut all = bytes(&[
        "[package]\nname = \"a\"\nversion = \"1.2.3\"\nedition = \"2021\"\nlicense = \"MIT\"\nrust-version = \"1.70\"\nlinks = \"z\"\n\
         [features]\nfast = [\"dep:b\", \"c/x\", \"d?/y\"]\n[dependencies]\nb = { version = \"1\", optional = true }\n\
         c = { version = \">=1, <3\", package = \"real-c\", default-features = false, features = [\"f\"] }\n\
         [target.'cfg(windows)'.build-dependencies]\nw = \"0.5\"\n[dev-dependencies]\nd = { path = \"../d\", git = \"x\" }\n",
        "[package]\nname = \"../../a\"\nversion = \"1\"",
        "[package]\nname = \"a\"\nversion = \"99999999999999999999.0.0\"",
        "[package]\nname = \"a\"\nversion = \"1.0.0-alpha.1+b\"\nrust-version = \"1.95.0.0\"",
        "[project]\nname = \"a\"",
        "package = 3",
        "[package]\nname = 1979-05-27T07:32:00Z",
        "[a.b.c.d.e.f]\n[a.b]\nc = 1",
        "a.b.c = 1\na.b.c.d = 2",
        "[[package]]\nname = \"a\"",
        "[target]\nx = 1\n[package]\nname = \"a\"",
        "a = nan\nb = inf\nc = 0xffffffffffffffffff\nd = 1__0",
        "a = \"\"\"\nunclosed",
        "1.95",
        "1.2.3-nightly",
    ]);
    for depth in [50, 90, 20_000] {
        all.push([b"a = ".to_vec(), vec![b'['; depth], vec![b']'; depth]].concat());
        all.push([b"a = ".to_vec(), b"{a=".repeat(depth), b"1".to_vec(), vec![b'}'; depth]].concat());
        all.push([b"a".to_vec(), b".a".repeat(depth), b" = 1".to_vec()].concat());
        all.push([b"[a".to_vec(), b".a".repeat(depth), b"]".to_vec()].concat());
    }
    let many: String = (0..3_000).map(|n| format!("d{n} = \"1\"\n")).collect();
    all.push(format!("[package]\nname = \"a\"\n[dependencies]\n{many}").into());
    all.push(format!("[package]\nname = \"{}\"\nversion = \"{}\"", "n".repeat(70), "9".repeat(100_000)).into());
    all.push(format!("[package]\nname = \"a\"\n[dependencies]\nx = \"{}\"", "1,".repeat(50_000)).into());
    all
}

/// Requests to the debug endpoint.
pub fn requests() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let paths = [
        "/",
        "/tree",
        "/tree?scope=cluster&format=text",
        "/actor?path=shard-0",
        "/owners",
        "/sagas?tenant=acme&limit=5",
        "/sagas?tenant=acme&limit=18446744073709551616",
        "/saga/acme/install/7",
        "/saga/acme/install/7/history?format=text",
        "/saga/%2e%2e/%2e%2e%2fetc",
        "/saga/acme/%00",
        "/saga/acme/%ff%fe",
        "/healthz",
        "/readyz",
        "/metrics",
        "/../x",
        "//",
        "/tree?scope=galaxy&scope=node",
        "/tree?format=%F0%9F%92%A9",
        "/tree?%",
        "*",
        "/saga//",
        "/saga/acme/a/history/history",
    ];
    for path in paths {
        all.push(format!("GET {path} HTTP/1.1\r\nHost: localhost:7070\r\nAccept: text/plain\r\n\r\n").into());
    }
    all.extend(bytes(&[
        "POST /tree HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody",
        "DELETE /saga/acme/x HTTP/1.1\r\nHost: [::1]:7070\r\n\r\n",
        "HEAD /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "CONNECT localhost:7070 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET http://evil.example/tree HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET /tree HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        "GET /tree HTTP/1.1\r\nHost: [::1\r\n\r\n",
        "GET /tree HTTP/1.1\r\nAuthorization: Bearer \r\n\r\n",
        "BREW /pot HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ]));
    all.push(format!("GET /tree?x={} HTTP/1.1\r\nHost: localhost\r\n\r\n", "y".repeat(60_000)).into());
    all.push(format!("GET /actor?path={} HTTP/1.1\r\nHost: localhost\r\n\r\n", "%ff".repeat(600)).into());
    all.push(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X-Long: y\r\n".repeat(5_000)).into());
    all.push(format!("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{}", "b".repeat(100_000)).into());
    all
}

/// Workers' answers: headers, an empty line, the body.
pub fn answers() -> Vec<Vec<u8>> {
    let mut all = bytes(&[
        "Skald-Status: ok\nContent-Type: application/json\n\n{\"price\": 3}",
        "\n\n",
        "Skald-Status: accepted\n\n",
        "Skald-Status: failed\nSkald-Error: OutOfStock\nSkald-Kind: permanent\nSkald-Cause: none left\n\n",
        "Skald-Status: failed\nSkald-Error:\n\n",
        "Skald-Status: failed\nSkald-Error: States.ALL\nSkald-Kind: eternal\n\n",
        "Skald-Status: \u{202e}ok\n\n{}",
        "Nats-Service-Error: no\nNats-Service-Error-Code: 400\n\n",
        "Nats-Service-Error: no\nNats-Service-Error-Code: 4é\n\n",
        "Content-Type: application/msgpack\n\n\u{1}",
        "Content-Type: text/xml; charset=utf-16\n\n<a/>",
        "Skald-Status: ok\nSkald-Status: failed\n\n[",
    ]);
    all.push(
        format!("Skald-Status: failed\nSkald-Error: {}\nSkald-Cause: {}\n\n", "E".repeat(70_000), "é".repeat(90_000))
            .into(),
    );
    all.push(format!("Skald-Status: {}\n\n", "x".repeat(300_000)).into());
    all.push(format!("Nats-Service-Error: {}\n\n", "y".repeat(300_000)).into());
    all.push(format!("Content-Type: {}\n\n{{}}", "z".repeat(300_000)).into());
    all.push([b"\n\n".to_vec(), vec![b'['; 10_000]].concat());
    all
}

/// Names, subjects, moments, tokens.
pub fn names() -> Vec<Vec<u8>> {
    let mut all = bytes(&[
        "skald.cmd.acme.ann.saga.start",
        "skald.cmd.acme.ann..start",
        "skald.cmd.acme.ann.saga.",
        "skald.cmd.acme.ann.*.>",
        "skald.cmd.acme.ann.saga.st art",
        "skald.cmd.acme.ann.sa\u{0}ga.x",
        "skald.cmd...",
        "acme/install/7",
        "acme/",
        "/x",
        "acme/../x",
        "acme//x",
        "a",
        "é",
        "\u{202e}x",
        "install-7.2=x",
        "evt-1:2.3",
        "7:2:acme/install/7",
        "18446744073709551616:1:a/b",
        "-1:-1:a/b",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:60.123456789+14:00",
        "-009999-01-02T01:59:59Z",
        "9999-12-30T22:00:00.999999999Z",
        "0000-00-00T00:00:00Z",
        "2026-01-01T00:00:00[Europe/Paris]",
    ]);
    all.extend([vec![b'a'; 64], vec![b'a'; 65], vec![b'k'; 128], vec![b'k'; 129], vec![b'x'; 500_000]]);
    all
}
