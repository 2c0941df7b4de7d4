//! Tickr beside what people would use instead, or would call fast: `make bench`.
//!
//! It starts everything itself, on the loopback interface and on free ports: a private MySQL
//! server with its default durability, `tickr serve`, nginx, Redis, and a server that answers
//! without thinking. It prints one table, and writes it into `README.md`, `benches/results.json`,
//! `docs/bench.svg` and `docs/scaling.svg`.

mod bench;
mod client;
mod load;
mod machine;
mod peers;
mod plot;
mod report;
mod rows;
mod scaling;
mod soak;
mod static_reply;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use serde_json::json;

use crate::bench::{Bench, Plan};
use crate::scaling::Scaling;

const USAGE: &str = "\
Usage: cargo bench --bench compare -- [--quick] [--only TEXT] | --soak SECONDS
  --quick         fewer and shorter runs; the figures go to the target folder
  --only TEXT     only the rows whose name holds the text; no files are written
  --soak SECONDS  one long run, watching the memory";

/// Nobody handles a failure of the benchmark but a person who reads it.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let done = match Task::parse(std::env::args().skip(1)) {
        Some(Task::Compare { plan, only, files }) => {
            compare(plan, &only, files.as_ref()).map(|()| true)
        }
        Some(Task::Soak { seconds }) => soak::run(seconds),
        None => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the benchmark failed: {error}");
            ExitCode::FAILURE
        }
    }
}

enum Task {
    Compare {
        plan: Plan,
        only: String,
        files: Option<Files>,
    },
    Soak {
        seconds: u64,
    },
}

impl Task {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Task> {
        let mut plan = Plan::FULL;
        let mut only = String::new();
        let mut files = Some(Files::committed());
        let mut soak = None;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // cargo adds this one.
                "--bench" => {}
                "--quick" => {
                    plan = Plan::QUICK;
                    files = files.map(|_| Files::scratch());
                }
                "--only" => {
                    only = arguments.next()?;
                    files = None;
                }
                "--soak" => soak = Some(arguments.next()?.parse().ok()?),
                _ => return None,
            }
        }
        Some(match soak {
            Some(seconds) => Task::Soak { seconds },
            None => Task::Compare { plan, only, files },
        })
    }
}

/// Between these lines of the README stands what the last run has printed.
const README_BEGIN: &str = "<!-- written by make bench -->\n";
const README_END: &str = "<!-- until here -->\n";

/// Where results go.
struct Files {
    readme: PathBuf,
    results: PathBuf,
    bars: PathBuf,
    scaling: PathBuf,
}

impl Files {
    fn committed() -> Files {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        Files {
            readme: root.join("README.md"),
            results: root.join("benches/results.json"),
            bars: root.join("docs/bench.svg"),
            scaling: root.join("docs/scaling.svg"),
        }
    }

    fn scratch() -> Files {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-quick");
        Files {
            readme: root.join("README.md"),
            results: root.join("results.json"),
            bars: root.join("bench.svg"),
            scaling: root.join("scaling.svg"),
        }
    }

    fn write(&self, table: &str, results: &str, bars: &str, scaling: &str) -> Outcome<()> {
        let readme = fs::read_to_string(Files::committed().readme)?;
        let parts = readme.split_once(README_BEGIN).and_then(|(before, rest)| {
            let (_, after) = rest.split_once(README_END)?;
            Some(format!("{before}{README_BEGIN}{table}{README_END}{after}"))
        });
        let readme = parts.ok_or("the README does not say where its table begins and ends")?;
        for (path, text) in [
            (&self.readme, readme.as_str()),
            (&self.results, results),
            (&self.bars, bars),
            (&self.scaling, scaling),
        ] {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(path, text)?;
            eprintln!("wrote {}", path.display());
        }
        Ok(())
    }
}

fn compare(plan: Plan, only: &str, files: Option<&Files>) -> Outcome<()> {
    let started = Instant::now();
    let date = httpdate::fmt_http_date(SystemTime::now());
    let machine = machine::description();
    let load = machine::load_average()?;
    if load > 0.5 {
        eprintln!("the machine has other work (load average {load}): expect noise");
    }
    let mut bench = Bench::start(plan)?;
    let rows = rows::measure(&mut bench, only)?;
    let method = format!(
        "medians of {} paired runs of {} s, everything on loopback",
        plan.pairs, plan.seconds
    );
    println!("{machine}\n{date}; {method}\n\n{}", report::table(&rows));
    if let Some(files) = files {
        let scaling = Scaling::measure(&bench)?;
        let results = json!({
            "date": date,
            "machine": machine,
            "load_average_before": load,
            "method": method,
            "versions": versions(&bench)?,
            "rows": rows.iter().map(report::Row::json).collect::<Vec<_>>(),
            "scaling": scaling.json(),
        });
        let points = format!("each point is one run of {} s", plan.point_seconds);
        let caption = |method: &str| format!("{machine}; {method}; {date}");
        files.write(
            &format!(
                "{machine}; {date}; {method}.\n\n{}\n",
                report::markdown(&rows)
            ),
            &format!("{results:#}\n"),
            &plot::bars(&rows, &caption(&method)),
            &plot::curves(&scaling, &caption(&points)),
        )?;
    }
    eprintln!("took {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn versions(bench: &Bench) -> Outcome<serde_json::Value> {
    Ok(json!({
        "tickr": env!("CARGO_PKG_VERSION"),
        "database": bench.bare.borrow_mut().server_version()?,
        "nginx": machine::version(&machine::program("nginx")?, "-v")?,
        "redis": machine::version(&machine::program("redis-server")?, "--version")?,
        "wrk": machine::version(&machine::program("wrk")?, "--version")?,
    }))
}
