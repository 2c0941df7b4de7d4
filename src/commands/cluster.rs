//! What concerns all nodes: `tickr cluster check`, and `tickr decode`, which names the node that
//! issued a ticket.

use std::io::{self, IsTerminal, Write};
use std::thread;

use serde_json::json;
use tickr::cluster;
use tickr::config::{ClusterConfig, DecodeConfig};
use tickr::database::Secret;
use tickr::limits;
use tickr::ticket::Origin;

use super::failure::Failure;
use super::output::{no_problems, printed, say, stdout};

pub(crate) fn decode(config: DecodeConfig) -> Result<(), Failure> {
    let DecodeConfig {
        ticket,
        max_nodes,
        starting_offset,
        json,
    } = config;
    let origin = Origin::of(ticket, max_nodes, starting_offset);
    if json {
        say(json!({
            "ticket": ticket,
            "possible": origin.is_some(),
            "node_number": origin.map(|origin| origin.node_number),
            "base_id": origin.map(|origin| origin.base),
        }))?;
    } else if let Some(Origin { node_number, base }) = origin {
        say(format_args!("ticket    {ticket}"))?;
        say(format_args!("node      {node_number} of {max_nodes}"))?;
        say(format_args!("base id   {base}"))?;
    }
    match origin {
        Some(_) => Ok(()),
        None => Err(Failure::Run(
            format!(
                "no node of this cluster can have issued {ticket}: its tickets begin at \
                 {starting_offset}"
            )
            .into(),
        )),
    }
}

pub(crate) fn check(config: ClusterConfig) -> Result<(), Failure> {
    let ClusterConfig {
        client,
        watch,
        json,
    } = config;
    let password = client.password.as_ref().map(Secret::expose);
    let mut out = stdout();
    let clear = match watch && !json && io::stdout().is_terminal() {
        true => "\x1b[2J\x1b[H",
        false => "",
    };
    loop {
        let report = cluster::check(&client.servers, client.timeout, password);
        let written = match json {
            true => writeln!(out, "{}", report.to_json()),
            false => writeln!(out, "{clear}{report}"),
        };
        let written = written.and_then(|()| out.flush());
        let is_read = written.is_ok();
        printed(written)?;
        if watch && is_read {
            thread::sleep(limits::CLUSTER_WATCH_INTERVAL);
            continue;
        }
        return no_problems(report.problems.len());
    }
}
