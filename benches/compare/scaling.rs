//! How cost grows: requests a second and the median time of one, against clients and against
//! batch size.

use serde_json::{Value, json};

use crate::Outcome;
use crate::bench::Bench;
use crate::load::{Figures, Load};
use crate::peers::Tickr;

const CLIENTS: [usize; 7] = [1, 4, 16, 64, 256, 1024, 4096];
const BATCH_SIZES: [u64; 7] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000];
const BATCH_CLIENTS: usize = 8;

/// What one server does as something grows.
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<Point>,
}

/// One run.
pub(crate) struct Point {
    /// Clients, or tickets in a batch.
    pub(crate) size: f64,
    pub(crate) figures: Figures,
}

/// Both kinds of growth.
pub(crate) struct Scaling {
    /// Singles, against clients.
    pub(crate) clients: Vec<Curve>,
    /// Batches for a few clients, against the size of a batch.
    pub(crate) batches: Vec<Curve>,
}

impl Scaling {
    /// Measures each point once.
    pub(crate) fn measure(bench: &Bench) -> Outcome<Scaling> {
        let seconds = bench.plan.point_seconds;
        let path = "/tickets/create";
        let clients = |run: &dyn Fn(Load) -> Outcome<Figures>| -> Outcome<Vec<Point>> {
            let point = |&clients: &usize| -> Outcome<Point> {
                Ok(Point {
                    size: clients as f64,
                    figures: run(Load::new(clients, seconds))?,
                })
            };
            CLIENTS.iter().map(point).collect()
        };
        let on_tickr = |tickr: &Tickr, path: &str, load: Load| -> Outcome<Figures> {
            let before = tickr.commits()?;
            let figures = bench.on_tickr(tickr, path, load)?;
            let commits = tickr.commits()? - before;
            Ok(Figures {
                commits_rate: Some(commits / load.seconds as f64),
                ..figures
            })
        };
        eprintln!("measuring: singles, 1 to 4096 clients");
        let mut by_clients = vec![Curve {
            name: "Tickr",
            points: clients(&|load| on_tickr(&bench.tickr, path, load))?,
        }];
        if bench.plan.all_curves {
            by_clients.push(Curve {
                name: "Tickr, strict",
                points: clients(&|load| on_tickr(&bench.strict, path, load))?,
            });
            let [many, one] = &bench.nginx;
            by_clients.push(Curve {
                name: "nginx",
                points: clients(&|load| {
                    let many = bench.on_nginx(many, path, load)?;
                    let one = bench.on_nginx(one, path, load)?;
                    Ok(if many.rate > one.rate { many } else { one })
                })?,
            });
        }
        eprintln!("measuring: batches of 1 to 1000000");
        let batch = |&size: &u64| -> Outcome<Point> {
            let path = format!("/tickets/create/{size}");
            let load = Load::new(BATCH_CLIENTS, seconds);
            Ok(Point {
                size: size as f64,
                figures: on_tickr(&bench.tickr, &path, load)?,
            })
        };
        Ok(Scaling {
            clients: by_clients,
            batches: vec![Curve {
                name: "Tickr",
                points: BATCH_SIZES.iter().map(batch).collect::<Outcome<_>>()?,
            }],
        })
    }

    /// Every point.
    pub(crate) fn json(&self) -> Value {
        let curves = |curves: &[Curve], size: &str| -> Value {
            let curve = |curve: &Curve| {
                let point = |point: &Point| {
                    json!({
                        size: point.size as u64,
                        "requests_per_second": point.figures.rate,
                        "median_seconds": point.figures.median_seconds,
                        "commits_per_second": point.figures.commits_rate,
                    })
                };
                let points: Vec<Value> = curve.points.iter().map(point).collect();
                json!({ "name": curve.name, "points": points })
            };
            curves.iter().map(curve).collect()
        };
        json!({
            "singles": curves(&self.clients, "clients"),
            "batches": curves(&self.batches, "batch_size"),
        })
    }
}
