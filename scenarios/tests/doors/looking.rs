//! Looking at a node: NATS micro requests and the debug endpoint.

use serde_json::{Value, json};

use super::{STAGE, fine, send};

#[test]
fn the_commands_are_a_nats_micro_service() {
    STAGE.play(async |stage| {
        stage.run("telling", "counted", json!({ "title": "one" })).await;
        for subject in ["$SRV.PING", "$SRV.PING.skald"] {
            let ping = fine(&send(&stage, subject, &[], "").await);
            assert_eq!((&ping["type"], &ping["name"]), (&json!("io.nats.micro.v1.ping_response"), &json!("skald")));
        }
        let info = fine(&send(&stage, "$SRV.INFO.skald", &[], "").await);
        assert_eq!(info["endpoints"][0]["subject"], "skald.cmd.*.*.*.*", "{info}");
        let stats = fine(&send(&stage, "$SRV.STATS.skald", &[], "").await);
        assert!(stats["endpoints"][0]["num_requests"].as_u64().unwrap() >= 2, "{stats}");
    });
}

#[test]
fn the_debug_endpoint_shows_health_figures_tree_and_sagas() {
    STAGE.play(async |stage| {
        stage.run("telling", "seen", json!({ "title": "one" })).await;
        stage.begin("human", "sits", json!({})).await;
        let base = format!("http://{}", stage.cluster.nodes[0].debug().expect("it listens"));
        let get = async |path: &str| {
            let response = reqwest::get(format!("{base}{path}")).await.expect("an answer");
            (response.status().as_u16(), response.text().await.expect("a body"))
        };
        let json = async |path: &str| {
            let (status, body) = get(path).await;
            assert_eq!(status, 200, "{path}: {body}");
            serde_json::from_str::<Value>(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
        };
        scenarios::cluster::until(scenarios::stage::PATIENCE, "the sync mode is known", || async {
            json("/healthz").await[0]["body"]["health"]["sync"].as_str().is_some_and(|sync| sync.starts_with("always"))
        })
        .await;
        assert_eq!(get("/readyz").await.0, 200);
        let tree = get("/tree?format=text").await.1;
        for actor in ["n0", "shard 0", "journal", "relay", "timers", "commands", "debug"] {
            assert!(tree.contains(actor), "{actor} is not in\n{tree}");
        }
        let owners = json("/owners").await;
        assert_eq!(owners[0]["body"]["owners"].as_array().unwrap().len(), 8, "{owners}");
        assert_eq!(json("/saga/acme/seen").await["status"], "succeeded");
        assert_eq!(json("/saga/acme/sits").await["waiting"][0]["kind"], "task");
        let history = json("/saga/acme/seen/history").await;
        assert_eq!(history["entries"][0]["fact"], "started by ann as telling v1");
        let rows = json("/sagas?tenant=acme&status=waiting").await;
        assert!(rows.as_array().unwrap().iter().any(|row| row["saga"] == "acme/sits"), "{rows}");
        let (status, gone) = get("/saga/acme/never-was").await;
        assert_eq!((status, gone.contains("there is no saga acme/never-was")), (404, true), "{gone}");
        let (status, nothing) = get("/nothing").await;
        assert_eq!((status, nothing.contains("/healthz")), (404, true), "{nothing}");
        assert_eq!(get("/sagas").await.0, 400);

        let metrics = get("/metrics").await.1;
        let figure = |name: &str| {
            let lines = metrics.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
        };
        assert!(metrics.ends_with("# EOF\n"), "OpenMetrics ends so");
        for name in [
            "skald_commands_total",
            "skald_events_total",
            "skald_actors",
            "skald_append_seconds_count",
            "skald_activity_seconds_count",
            "skald_ready",
            "skald_members",
        ] {
            assert!(figure(name) >= 1.0, "{name} is not counted in\n{metrics}");
        }
    });
}
