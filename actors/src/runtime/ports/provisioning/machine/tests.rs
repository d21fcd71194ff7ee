//! The contract, and what only a machine can show.

use std::collections::BTreeSet;

use super::super::contract::{self, absent, plan};
use super::*;

/// A range of ports of its own for each test: they run at the same time.
fn machine(dir: &tempfile::TempDir, from: u16) -> Machine {
    Machine::open(Settings { ports: from..=from + 49, ..Settings::new(dir.path()) }).unwrap()
}

async fn applied(machine: &Machine, plan: &Plan) -> Result<Outputs, Failure> {
    let preview = machine.preview(plan).await?;
    machine.apply(plan, &preview.id).await
}

#[tokio::test]
async fn a_machine_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract::hold(&machine(&dir, 21_000)).await;
}

#[tokio::test]
async fn the_directory_is_there_and_is_taken_away_with_all_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let machine = machine(&dir, 21_100);
    let outputs = applied(&machine, &plan("shop", 1)).await.unwrap();
    let place = PathBuf::from(&outputs["directory"]);
    fs::create_dir_all(place.join("deep/er")).unwrap();
    fs::write(place.join("deep/er/file"), b"x").unwrap();
    // Somebody removed it: that shows, and is mended.
    fs::remove_dir_all(&place).unwrap();
    let preview = machine.preview(&plan("shop", 1)).await.unwrap();
    assert_eq!(preview.changes.iter().map(|change| change.resource.as_str()).collect::<Vec<_>>(), ["directory"]);
    machine.apply(&plan("shop", 1), &preview.id).await.unwrap();
    assert!(place.is_dir());
    fs::write(place.join("file"), b"x").unwrap();
    applied(&machine, &absent("shop")).await.unwrap();
    assert!(!place.exists());
}

#[tokio::test]
async fn a_crash_on_the_way_is_gone_on_from() {
    for made in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let machine = machine(&dir, if made { 21_200 } else { 21_300 });
        let shop = plan("shop", 1);
        let preview = machine.preview(&shop).await.unwrap();
        // The crash: begun is written down, and perhaps the directory is made.
        let mut book = machine.book().unwrap();
        let port = machine.free_port(&book, None).unwrap();
        let id = shop.environment.environment_id.clone();
        let unfinished = Some(Unfinished { preview: preview.id.clone(), port: Some(port) });
        book.environments.insert(id.clone(), Record { unfinished, ..Record::default() });
        machine.keep(&book).unwrap();
        if made {
            fs::create_dir_all(machine.place(&id)).unwrap();
        }
        assert_eq!(machine.state(&id).await.unwrap(), None, "it is not there before it is done");
        // Others do not get its port meanwhile.
        let other = applied(&machine, &plan("other", 1)).await.unwrap();
        assert_ne!(other["gatewayPort"], port.to_string());
        let outputs = machine.apply(&shop, &preview.id).await.unwrap();
        assert_eq!(outputs["gatewayPort"], port.to_string());
        assert_eq!(machine.state(&id).await.unwrap().unwrap().outputs, outputs);
    }
}

#[tokio::test]
async fn ports_are_given_once_and_run_out() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 21_401)).unwrap();
    let machine = Machine::open(Settings { ports: 21_400..=21_402, ..Settings::new(dir.path()) }).unwrap();
    let mut ports = Vec::new();
    for name in ["a", "b"] {
        ports.push(applied(&machine, &plan(name, 1)).await.unwrap()["gatewayPort"].clone());
    }
    assert_eq!(ports, ["21400", "21402"], "21401 is somebody else's");
    assert_eq!(applied(&machine, &plan("c", 1)).await.unwrap_err().error, "NoFreePort");
    applied(&machine, &absent("a")).await.unwrap();
    assert_eq!(applied(&machine, &plan("c", 1)).await.unwrap()["gatewayPort"], "21400");
    drop(taken);
}

#[tokio::test]
async fn processes_side_by_side_give_every_environment_a_port_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let makers: Vec<_> = (0..8)
        .map(|n| {
            let path = path.clone();
            tokio::spawn(async move {
                // Each opens it anew, as another process would.
                let machine = Machine::open(Settings { ports: 21_500..=21_549, ..Settings::new(path) }).unwrap();
                let plan = plan(&format!("e{n}"), 1);
                loop {
                    match applied(&machine, &plan).await {
                        Ok(outputs) => return outputs["gatewayPort"].clone(),
                        // Somebody else took the port that was shown.
                        Err(failure) => assert_eq!(failure.error, "PreviewChanged", "{failure}"),
                    }
                }
            })
        })
        .collect();
    let mut ports = BTreeSet::new();
    for maker in makers {
        ports.insert(maker.await.unwrap());
    }
    assert_eq!(ports.len(), 8);
}

#[tokio::test]
async fn a_full_machine_and_a_damaged_state_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { environments: 1, ports: 21_600..=21_649, ..Settings::new(dir.path()) };
    let machine = Machine::open(settings).unwrap();
    applied(&machine, &plan("a", 1)).await.unwrap();
    assert_eq!(machine.preview(&plan("b", 1)).await.unwrap_err().error, "TooManyEnvironments");
    fs::write(machine.file(), b"{\"serial\": 1, \"envir").unwrap();
    assert_eq!(machine.preview(&plan("a", 1)).await.unwrap_err().error, "StateDamaged");
}
