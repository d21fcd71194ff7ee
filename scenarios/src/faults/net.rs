//! The network of a run: every server, every node and the program itself in a network namespace of
//! its own, each with one cable to a bridge that is in a namespace as well. Nothing of the host's
//! network is used or changed, so the addresses can be the same in every run.
//!
//! Packets are dropped where they arrive, as a broken network does; dropping them where they are
//! sent would tell the sender.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

use super::tools::{Tools, run};

/// The program's own host.
pub const CLIENT: &str = "c";
/// What each host's cable is called inside.
const CABLE: &str = "eth0";
/// How namespaces of these runs begin; then the process id and the host.
const PREFIX: &str = "skald-faults-";

/// The address of a host: servers `s0`…, nodes `n0`…, and the client.
pub fn address(host: &str) -> String {
    let number = host.get(1..).and_then(|digits| digits.parse::<u8>().ok()).unwrap_or(0);
    let last = if host == CLIENT {
        100
    } else if host.starts_with('s') {
        1 + number
    } else {
        11 + number
    };
    format!("10.213.0.{last}")
}

/// The namespaces of one run.
#[derive(Clone, Debug)]
pub struct Net {
    run: u32,
    hosts: Vec<String>,
    /// What is dropped at each host.
    rules: BTreeMap<String, Vec<String>>,
}

impl Net {
    /// The network of the run of process `run`, whether it is made or not.
    pub fn new(run: u32, servers: usize, nodes: usize) -> Self {
        let servers = (0..servers).map(|number| format!("s{number}"));
        let nodes = (0..nodes).map(|number| format!("n{number}"));
        Self { run, hosts: servers.chain(nodes).chain([CLIENT.to_owned()]).collect(), rules: BTreeMap::new() }
    }

    /// The namespace of a host.
    pub fn namespace(&self, host: &str) -> String {
        format!("{PREFIX}{}-{host}", self.run)
    }

    /// Makes it.
    pub fn make(&self) -> anyhow::Result<()> {
        let bridge = self.namespace("lan");
        run("ip", &["netns", "add", &bridge])?;
        run("ip", &["-n", &bridge, "link", "add", "lan", "type", "bridge"])?;
        run("ip", &["-n", &bridge, "link", "set", "lan", "up"])?;
        for host in &self.hosts {
            let (space, plug, address) = (self.namespace(host), format!("to-{host}"), address(host) + "/24");
            run("ip", &["netns", "add", &space])?;
            run("ip", &["-n", &space, "link", "set", "lo", "up"])?;
            let cable = ["link", "add", &plug, "type", "veth", "peer", "name", CABLE, "netns", &space];
            run("ip", &[&["-n", bridge.as_str()], &cable[..]].concat())?;
            run("ip", &["-n", &bridge, "link", "set", &plug, "master", "lan", "up"])?;
            run("ip", &["-n", &space, "address", "add", &address, "dev", CABLE])?;
            run("ip", &["-n", &space, "link", "set", CABLE, "up"])?;
        }
        Ok(())
    }

    /// Removes it, with every process that is still in it; only this run's are.
    pub fn remove(&self) {
        for host in self.hosts.iter().map(String::as_str).chain(["lan"]) {
            let space = self.namespace(host);
            for process in processes(&space) {
                let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
            }
            let _ = Command::new("ip").args(["netns", "delete", &space]).stderr(Stdio::null()).status();
        }
    }

    /// A command that runs `program` on a host, as the process that this starts.
    pub fn command(&self, host: &str, program: &Path) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host)]).arg(program);
        command
    }

    /// Whether packets can be delayed here; tried on the client's own cable.
    pub fn look(&self, tools: &mut Tools) {
        tools.netem = self.slow(CLIENT, "1ms", "0%").is_ok();
        let _ = self.fast(CLIENT);
    }

    /// Delays what a host sends, and loses some of it.
    pub fn slow(&self, host: &str, delay: &str, loss: &str) -> anyhow::Result<()> {
        let space = self.namespace(host);
        run("tc", &["-n", &space, "qdisc", "add", "dev", CABLE, "root", "netem", "delay", delay, "loss", loss])
    }

    /// Ends that.
    pub fn fast(&self, host: &str) -> anyhow::Result<()> {
        run("tc", &["-n", &self.namespace(host), "qdisc", "del", "dev", CABLE, "root"])
    }

    /// What `from` sends does not arrive at `to` any more.
    pub fn deafen(&mut self, to: &str, from: &str) -> anyhow::Result<()> {
        self.rule(to, format!("ip saddr {} drop", address(from)))
    }

    /// One packet in ten that comes to `host` is lost.
    pub fn lossy(&mut self, host: &str) -> anyhow::Result<()> {
        self.rule(host, format!("iifname {CABLE} numgen random mod 10 < 1 drop"))
    }

    /// Everything arrives again, everywhere.
    pub fn heal(&mut self) -> anyhow::Result<()> {
        for host in std::mem::take(&mut self.rules).into_keys() {
            self.apply(&host)?;
        }
        Ok(())
    }

    fn rule(&mut self, host: &str, rule: String) -> anyhow::Result<()> {
        self.rules.entry(host.to_owned()).or_default().push(rule);
        self.apply(host)
    }

    fn apply(&self, host: &str) -> anyhow::Result<()> {
        let mut text = String::from("flush ruleset\n");
        if let Some(rules) = self.rules.get(host) {
            let _ = write!(
                text,
                "table inet faults {{\n chain arrives {{\n type filter hook input priority 0; policy accept;\n {}\n }}\n}}\n",
                rules.join("\n ")
            );
        }
        let mut nft = Command::new("ip")
            .args(["netns", "exec", &self.namespace(host), "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("nft does not run: apt-get install nftables")?;
        nft.stdin.take().context("nft has an input")?.write_all(text.as_bytes())?;
        let output = nft.wait_with_output()?;
        anyhow::ensure!(output.status.success(), "nft refused: {}\n{text}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

/// Removes namespaces that a former run left when it was killed. One with a process in it is left
/// alone: somebody may still look at it.
pub fn sweep() {
    let Ok(output) = Command::new("ip").args(["netns", "list"]).output() else { return };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some(space) = line.split_whitespace().next() else { continue };
        let owner = space.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let gone = owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists());
        if gone && processes(space).is_empty() {
            let _ = run("ip", &["netns", "delete", space]);
        }
    }
}

fn processes(space: &str) -> Vec<rustix::process::Pid> {
    let Ok(output) = Command::new("ip").args(["netns", "pids", space]).stderr(Stdio::null()).output() else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter_map(|line| rustix::process::Pid::from_raw(line.trim().parse().ok()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_hosts_have_the_same_address() {
        let net = Net::new(1, 3, 3);
        let addresses: std::collections::BTreeSet<_> = net.hosts.iter().map(|host| address(host)).collect();
        assert_eq!(addresses.len(), net.hosts.len());
        assert_eq!(net.namespace("s1"), "skald-faults-1-s1");
    }
}
