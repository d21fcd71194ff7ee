//! What the runtime platform remembers, on a real server: the promises that the store in memory
//! keeps too.

use crate::support::{One, one};
use actors::runtime::store::contract;
use node::nats::{KvRuntime, Replicas};

#[tokio::test]
async fn the_bucket_keeps_the_promises_of_the_store() {
    let One { bus, server: _server, dir: _dir } = one().await;
    let store = KvRuntime::open(&bus, Replicas::One).await.unwrap();
    contract::holds(&store).await;
}
