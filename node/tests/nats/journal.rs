//! The journal's promises, held against real servers.

use std::time::Duration;

use crate::support::{One, bus, one, three, until};
use bytes::Bytes;
use futures::TryStreamExt;
use node::nats::{Bus, JetStreamJournal, JournalConfig, Replicas, SetupError, watch};
use protocol::ShardId;
use supervisor::ports::{AppendError, Journal, Position};

const SHARD: ShardId = ShardId(3);

async fn open(bus: &Bus, config: &JournalConfig) -> JetStreamJournal {
    JetStreamJournal::open(bus, config).await.unwrap()
}

async fn positions(journal: &JetStreamJournal, shard: ShardId, from: Position, to: Position) -> Vec<Position> {
    journal.read(shard, from, to).map_ok(|(position, _)| position).try_collect().await.unwrap()
}

fn frame(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[tokio::test]
async fn of_two_writers_only_the_last_one_goes_on() {
    let One { bus, server: _server, dir: _dir } = one().await;
    let journal = open(&bus, &JournalConfig::default()).await;
    assert!(journal.last(SHARD).await.unwrap().is_none());
    let first = journal.append(SHARD, frame("a1"), 0, "a-1").await.unwrap();
    // Another owner looks, and takes over.
    let (seen, _) = journal.last(SHARD).await.unwrap().unwrap();
    assert_eq!(seen, first);
    let taken = journal.append(SHARD, frame("b1"), seen, "b-1").await.unwrap();
    // The former one is fenced, whatever it expects.
    for expected in [0, first] {
        let fenced = journal.append(SHARD, frame("a2"), expected, "a-2").await.unwrap_err();
        assert!(matches!(fenced, AppendError::Conflict), "{fenced}");
    }
    assert_eq!(journal.last(SHARD).await.unwrap().unwrap(), (taken, frame("b1")));
    // Other shards are not touched by it.
    journal.append(ShardId(1), frame("c1"), 0, "c-1").await.unwrap();
}

#[tokio::test]
async fn the_same_frame_twice_is_one_frame() {
    let One { bus, server: _server, dir: _dir } = one().await;
    let journal = open(&bus, &JournalConfig::default()).await;
    let first = journal.append(SHARD, frame("a"), 0, "a-1").await.unwrap();
    assert_eq!(journal.append(SHARD, frame("a"), 0, "a-1").await.unwrap(), first);
    assert_eq!(positions(&journal, SHARD, 0, u64::MAX).await, [first]);
    let second = journal.append(SHARD, frame("b"), first, "a-2").await.unwrap();
    let late = journal.append(SHARD, frame("a"), 0, "a-1").await.unwrap_err();
    assert!(matches!(late, AppendError::Conflict), "an older frame is not the last one");
    assert_eq!(positions(&journal, SHARD, 0, u64::MAX).await, [first, second]);
}

#[tokio::test]
async fn ranges_are_read_in_order_and_end() {
    let One { bus, server: _server, dir: _dir } = one().await;
    for streams in [1, 8] {
        let one = one().await;
        let config = JournalConfig { shards: Some(8), streams: Some(streams), ..JournalConfig::default() };
        let journal = open(&one.bus, &config).await;
        let other = ShardId(2);
        let (mut mine, mut theirs) = (vec![], 0);
        for n in 0..200 {
            let expected = mine.last().copied().unwrap_or(0);
            mine.push(journal.append(SHARD, frame(&format!("f{n}")), expected, &format!("m-{n}")).await.unwrap());
            theirs = journal.append(other, frame("x"), theirs, &format!("t-{n}")).await.unwrap();
        }
        assert_eq!(positions(&journal, SHARD, 0, u64::MAX).await, mine);
        assert_eq!(positions(&journal, SHARD, mine[10], mine[20]).await, mine[10..=20]);
        assert_eq!(positions(&journal, SHARD, mine[199] + 1, u64::MAX).await, [0; 0]);
        assert_eq!(positions(&journal, SHARD, 9, 3).await, [0; 0]);
        assert_eq!(positions(&journal, ShardId(0), 0, u64::MAX).await, [0; 0]);
        let whole: Vec<_> = journal.read(SHARD, mine[7], mine[7]).try_collect().await.unwrap();
        assert_eq!(whole, [(mine[7], frame("f7"))]);
        assert_eq!(journal.get(SHARD, mine[5]).await.unwrap(), Some(frame("f5")));
        assert_eq!(journal.get(SHARD, 999_999).await.unwrap(), None);
        if streams == 1 {
            assert_eq!(journal.get(other, mine[5]).await.unwrap(), None, "it belongs to another shard");
        }
    }
    drop(bus);
}

#[tokio::test]
async fn a_lost_acknowledgement_is_settled_by_looking() {
    let One { bus, mut server, dir: _dir } = one().await;
    let journal = std::sync::Arc::new(open(&bus, &JournalConfig::default()).await);
    // Frames are appended without a pause while the server is killed.
    let mut last = 0;
    let mut counter = 0u32;
    for _round in 0..3 {
        let writer = tokio::spawn({
            let journal = std::sync::Arc::clone(&journal);
            async move {
                loop {
                    counter += 1;
                    match journal.append(SHARD, frame(&counter.to_string()), last, &format!("w-{counter}")).await {
                        Ok(position) => last = position,
                        Err(AppendError::Undecided(_)) => return (last, counter),
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        });
        until("some frames", || async {
            let (at, _) = journal.last(SHARD).await.ok()??;
            (at > last + 20).then_some(())
        })
        .await;
        server.kill().await;
        (last, counter) = writer.await.unwrap();
        server.restart().await.unwrap();
        let (at, bytes) = until("the last frame", || async { journal.last(SHARD).await.ok()? }).await;
        if bytes == frame(&counter.to_string()) {
            assert!(at > last, "the frame was written and its acknowledgement lost");
        } else {
            assert_eq!((at, bytes), (last, frame(&(counter - 1).to_string())), "what was acknowledged is the last");
        }
        // The same frame again: written once, whichever it was.
        let again = until("the same frame again", || async {
            journal.append(SHARD, frame(&counter.to_string()), last, &format!("w-{counter}")).await.ok()
        })
        .await;
        assert_eq!(journal.last(SHARD).await.unwrap().unwrap(), (again, frame(&counter.to_string())));
        last = again;
    }
    let all: Vec<_> = journal.read(SHARD, 0, u64::MAX).try_collect().await.unwrap();
    let written: Vec<u32> = all.iter().map(|(_, bytes)| std::str::from_utf8(bytes).unwrap().parse().unwrap()).collect();
    assert_eq!(written, (1..=counter).collect::<Vec<_>>(), "every frame once, in order");
}

#[tokio::test]
async fn large_frames_come_back_and_too_large_ones_are_refused() {
    let One { bus, server: _server, dir: _dir } = one().await;
    let journal = open(&bus, &JournalConfig::default()).await;
    let large = Bytes::from(vec![7; journal.frame_max_bytes()]);
    let at = journal.append(SHARD, large.clone(), 0, "l-1").await.unwrap();
    assert_eq!(journal.last(SHARD).await.unwrap(), Some((at, large.clone())));
    assert_eq!(journal.get(SHARD, at).await.unwrap(), Some(large));
    let larger = Bytes::from(vec![7; 9 * 1024 * 1024]);
    let refused = journal.append(SHARD, larger, at, "l-2").await.unwrap_err();
    assert!(matches!(refused, AppendError::Refused(_)), "{refused}");
}

#[tokio::test]
async fn nodes_that_make_a_new_cluster_together_miss_nothing() {
    for _ in 0..4 {
        let One { server, .. } = &one().await;
        let buses = futures::future::join_all((0..8).map(|_| bus([server.url()]))).await;
        let mut told: Vec<_> = buses.iter().map(|bus| watch(bus, Vec::new())).collect();
        let config = JournalConfig { shards: Some(8), streams: Some(8), ..JournalConfig::default() };
        futures::future::join_all(buses.iter().map(|bus| open(bus, &config))).await;
        for told in &mut told {
            assert!(told.try_recv().is_err(), "what another node made in this moment counts as lost");
        }
    }
}

#[tokio::test]
async fn a_cluster_keeps_its_shape() {
    let One { bus, server: _server, dir: _dir } = one().await;
    let small = JournalConfig { shards: Some(4), streams: Some(2), ..JournalConfig::default() };
    let shape = open(&bus, &small).await.shape();
    assert_eq!(open(&bus, &small).await.shape(), shape);
    assert_eq!(open(&bus, &JournalConfig::default()).await.shape(), shape, "what is not set follows what is stored");
    let other = JournalConfig { shards: Some(8), ..JournalConfig::default() };
    let error = JetStreamJournal::open(&bus, &other).await.unwrap_err();
    assert!(matches!(error, SetupError::OtherShape { .. }), "{error}");
    assert!(error.to_string().contains("journal.shards = 4"), "{error}");
    for bad in [(0, 1), (4, 5)] {
        let config = JournalConfig { shards: Some(bad.0), streams: Some(bad.1), ..JournalConfig::default() };
        assert!(matches!(JetStreamJournal::open(&bus, &config).await, Err(SetupError::Setting(_))));
    }
}

#[tokio::test]
async fn three_servers_lose_their_leader_and_nothing_else() {
    let mut three = three().await;
    let config = JournalConfig { replicas: Replicas::Three, ..JournalConfig::default() };
    let journal = open(&three.bus, &config).await;
    let mut last = 0;
    for n in 0..50 {
        last = append_surely(&journal, last, n).await;
    }
    let stream = three.bus.jetstream.get_stream("SKALD_JOURNAL_0").await.unwrap();
    let leader = stream.cached_info().cluster.clone().unwrap().leader.unwrap();
    three.servers.named(&leader).unwrap().kill().await;
    for n in 50..100 {
        last = append_surely(&journal, last, n).await;
    }
    three.servers.named(&leader).unwrap().restart().await.unwrap();
    // Through the server that was away, the whole journal is read all the same.
    let back = bus([three.servers.named(&leader).unwrap().url()]).await;
    let journal = open(&back, &config).await;
    let all =
        until("the whole journal", || async { journal.read(SHARD, 0, last).try_collect::<Vec<_>>().await.ok() }).await;
    let written: Vec<_> = all.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect();
    assert_eq!(written, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    three.servers.stop().await;
}

#[tokio::test]
async fn eight_shards_on_one_replicated_stream_do_not_fence_each_other() {
    let three = three().await;
    let config = JournalConfig { replicas: Replicas::Three, streams: Some(1), ..JournalConfig::default() };
    let journal = open(&three.bus, &config).await;
    // The server now and then refuses a correct writer with 10164 while other subjects are being
    // agreed on. That is undecided, never a conflict, and the same frame goes in at the next try.
    let write = |shard: ShardId| {
        let journal = &journal;
        async move {
            let (mut last, mut undecided) = (0, 0);
            for n in 0..200u32 {
                let bytes = frame(&n.to_string());
                last = loop {
                    match journal.append(shard, bytes.clone(), last, &format!("{shard}-{n}")).await {
                        Ok(at) => break at,
                        Err(AppendError::Undecided(_)) => undecided += 1,
                        Err(other) => panic!("shard {shard}, frame {n}: {other}"),
                    }
                };
            }
            assert_eq!(positions(journal, shard, 0, last).await.len(), 200);
            undecided
        }
    };
    let undecided: u32 = futures::future::join_all((0..8).map(|n| write(ShardId(n)))).await.into_iter().sum();
    println!("{undecided} of 1600 appends were undecided at first");
    three.servers.stop().await;
}

/// Appends as a shard does: an undecided append is looked at, then tried again.
async fn append_surely(journal: &JetStreamJournal, last: Position, n: u32) -> Position {
    let bytes = frame(&n.to_string());
    until("an append", || async {
        match journal.append(SHARD, bytes.clone(), last, &format!("s-{n}")).await {
            Ok(at) => Some(at),
            Err(AppendError::Undecided(_)) => None,
            Err(AppendError::Conflict) => match journal.last(SHARD).await {
                Ok(Some((at, there))) if there == bytes => Some(at),
                Ok(other) => panic!("fenced by {other:?}"),
                Err(_) => None,
            },
            Err(AppendError::Refused(why)) => panic!("{why}"),
        }
    })
    .await
}

#[tokio::test]
async fn a_shard_without_permission_is_refused_with_the_servers_words() {
    use node::nats::{Auth, ConnectConfig, connect};
    use node::server::{Server, ServerConfig};
    let dir = tempfile::tempdir().unwrap();
    let mut config = ServerConfig::new(dir.path());
    config.extra = "authorization { users: [\n\
        { user: all, password: pw },\n\
        { user: reader, password: pw, permissions: { publish: { deny: [\"skald.journal.*\"] } } } ] }"
        .into();
    let server = Server::start(&crate::support::program().await, config).await.unwrap();
    let as_user = |user: &str| ConnectConfig {
        auth: Auth::User { user: user.into(), password: "pw".into() },
        request_within: Duration::from_millis(500),
        ..ConnectConfig::new([server.url()])
    };
    let journal = open(&connect(as_user("all")).await.unwrap(), &JournalConfig::default()).await;
    let at = journal.append(SHARD, frame("a"), 0, "a").await.unwrap();
    let reader = open(&connect(as_user("reader")).await.unwrap(), &JournalConfig::default()).await;
    assert_eq!(reader.last(SHARD).await.unwrap().unwrap().0, at);
    let refused = reader.append(SHARD, frame("b"), at, "b").await.unwrap_err();
    assert!(matches!(&refused, AppendError::Refused(why) if why.contains("Permissions Violation")), "{refused}");
}
