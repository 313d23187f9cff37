//! The pages under `docs` say what the program does. What a machine can compare is compared here, so
//! that a page that has become wrong fails.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers are part of tests: what is not there fails the test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

// ---- Markdown ---------------------------------------------------------------------------------

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page(name: &str) -> String {
    fs::read_to_string(workspace().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The rows of every table of `page` whose first column is called `first`, each as column → cell.
fn rows(page: &str, first: &str) -> Vec<BTreeMap<String, String>> {
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
        inner
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    let mut rows = Vec::new();
    let mut header: Option<Vec<String>> = None;
    for line in page.lines() {
        if !line.starts_with('|') {
            header = None;
            continue;
        }
        match &header {
            None => header = Some(cells(line)),
            Some(names) if names[0] == first && !line.starts_with("|-") => {
                let values = cells(line);
                assert_eq!(values.len(), names.len(), "a row of another shape: {line}");
                rows.push(names.iter().cloned().zip(values).collect());
            }
            Some(_) => {}
        }
    }
    assert!(!rows.is_empty(), "no table begins with the column {first}");
    rows
}

/// The parts of `text` that stand between backticks.
fn code(text: &str) -> Vec<String> {
    let parts = text.split('`').skip(1).step_by(2);
    parts.map(str::to_owned).collect()
}

/// The first of them, which a cell with a name has.
fn name(text: &str) -> String {
    let found = code(text);
    assert!(!found.is_empty(), "no name between backticks: {text}");
    found[0].clone()
}

// ---- The program ------------------------------------------------------------------------------

/// A command without any configuration of whoever runs the tests.
fn tidegate(directory: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.current_dir(directory.path()).stdin(Stdio::null());
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("TIDEGATE__") {
            command.env_remove(variable);
        }
    }
    command
}

fn check(arguments: &[String]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let output = tidegate(&directory).arg("check").args(arguments).output();
    output.unwrap()
}

/// A gateway on free ports; ended when dropped.
struct Gateway {
    child: Child,
    listeners: serde_json::Value,
    directory: TempDir,
}

impl Gateway {
    /// It publishes the `$SYS` tree once, when it starts.
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ready = directory.path().join("ready.json");
        let child = tidegate(&directory)
            .args(["--set", "listeners.mqtt.bind=127.0.0.1:0"])
            .args(["--set", "listeners.mqtts.bind=127.0.0.1:0"])
            .args(["--set", "listeners.ws.bind=127.0.0.1:0"])
            .args(["--set", "listeners.wss.bind=127.0.0.1:0"])
            .args(["--set", "listeners.quic.bind=127.0.0.1:0"])
            .args(["--set", "listeners.coap.bind=127.0.0.1:0"])
            .args(["--set", "listeners.coap_tcp.bind=127.0.0.1:0"])
            .args(["--set", "listeners.coaps_tcp.bind=127.0.0.1:0"])
            .args(["--set", "http.bind=127.0.0.1:0"])
            .args(["--set", "telemetry.sys_interval=1h"])
            .args(["--set", "telemetry.log=warn"])
            .arg("--ready-file")
            .arg(&ready)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut gateway = Self {
            child,
            listeners: serde_json::Value::Null,
            directory,
        };
        let end = Instant::now() + Duration::from_secs(20);
        while !ready.exists() {
            assert!(Instant::now() < end, "it is not ready in time");
            let ended = gateway.child.try_wait().unwrap();
            assert_eq!(ended, None, "it ended before it was ready");
            std::thread::sleep(Duration::from_millis(10));
        }
        let text = fs::read(&ready).unwrap();
        let file: serde_json::Value = serde_json::from_slice(&text).unwrap();
        gateway.listeners = file["listeners"].clone();
        gateway
    }

    fn address(&self, listener: &str) -> &str {
        self.listeners[listener]["address"].as_str().unwrap()
    }

    fn metrics(&self) -> String {
        let address = self.address("http");
        let mut stream = TcpStream::connect(address).unwrap();
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        response
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Both fail when it has ended, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ---- docs/configuration.md --------------------------------------------------------------------

#[test]
fn every_key_is_documented_with_its_default() {
    let output = check(&[]);
    assert_eq!(output.status.code(), Some(0));
    let listing = String::from_utf8(output.stdout).unwrap();
    let mut program = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    for line in listing.lines() {
        let (said, origin) = line.rsplit_once("  # ").unwrap();
        assert_eq!(origin, "default", "{line}");
        let (key, value) = match said.split_once(" = ") {
            Some((key, value)) => (key, value.trim_end()),
            None => {
                let rest = said.strip_prefix("# ").unwrap();
                (rest.split(' ').next().unwrap(), "not set")
            }
        };
        let Some((name, rest)) = of_listener(key) else {
            program.insert(key.to_owned(), value.to_owned());
            continue;
        };
        if matches!(rest, "kind" | "bind") {
            let address: &mut BTreeMap<_, _> = addresses.entry(name.to_owned()).or_default();
            address.insert(rest.to_owned(), value.to_owned());
        } else {
            // What all listeners have, they have alike.
            let before = program.insert(format!("listeners.NAME.{rest}"), value.to_owned());
            assert!(before.is_none_or(|before| before == value), "{line}");
        }
    }
    for key in ["kind", "bind"] {
        program.insert(format!("listeners.NAME.{key}"), "of the name".to_owned());
    }
    for key in ["cert", "key"] {
        let further = format!("listeners.NAME.tls.certificates.X.{key}");
        program.insert(further, "not set".to_owned());
    }
    let page = page("docs/configuration.md");
    for row in rows(&page, "name") {
        let address = addresses.remove(&name(&row["name"])).unwrap();
        for key in ["kind", "bind"] {
            assert_eq!(row[key].trim_matches('`'), address[key]);
        }
    }
    assert!(addresses.is_empty(), "not documented: {addresses:?}");
    let mut documented = BTreeMap::new();
    for row in rows(&page, "key") {
        let default = row["default"].trim_matches('`').to_owned();
        let twice = documented.insert(name(&row["key"]), default);
        assert_eq!(twice, None, "{} is documented twice", row["key"]);
    }
    let keys: BTreeSet<_> = documented.keys().chain(program.keys()).collect();
    for key in keys {
        assert_eq!(
            (key, documented.get(key)),
            (key, program.get(key)),
            "documented, and in the program"
        );
    }
}

/// Splits `listeners.NAME.rest`.
fn of_listener(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix("listeners.")?.split_once('.')
}

/// Every key is set to what it cannot be; the program answers with the ranges.
#[test]
fn every_range_is_the_one_that_is_enforced() {
    let page = page("docs/configuration.md");
    let ranges: BTreeMap<String, String> = rows(&page, "key")
        .into_iter()
        .filter(|row| {
            matches!(
                &*row["type"],
                "yes/no" | "number" | "size" | "time" | "word"
            )
        })
        // The listener wss has all of them but those of QUIC and CoAP; pings are of CoAP over TCP.
        .map(|row| {
            let key = name(&row["key"]);
            let listener = if key.contains(".quic.") {
                "quic"
            } else if key.contains(".coap.ping_") {
                "coap_tcp"
            } else if key.contains(".coap.") {
                "coap"
            } else {
                "wss"
            };
            (key.replace("NAME", listener), row["range"].replace('`', ""))
        })
        .collect();
    let arguments: Vec<String> = ranges
        .keys()
        .flat_map(|key| ["--set".to_owned(), format!("{key}=?")])
        .collect();
    let output = check(&arguments);
    assert_eq!(output.status.code(), Some(2));
    let problems = String::from_utf8(output.stderr).unwrap();
    for (key, range) in ranges {
        let problem = problems
            .lines()
            .find(|line| line.trim().starts_with(&format!("flag --set {key}:")))
            .unwrap_or_else(|| panic!("{key} took \"?\""));
        let enforced = problem.ends_with(&format!(", {range}"))
            || problem.ends_with(&format!(": must be {range}"));
        assert!(enforced, "documented is {range}, but: {problem}");
    }
}

/// Files that an example names need not be there.
#[test]
fn every_example_of_a_configuration_is_valid() {
    let mut examples = 0;
    for path in pages() {
        let text = fs::read_to_string(&path).unwrap();
        for block in text.split("```toml\n").skip(1) {
            let example = block.split("```").next().unwrap();
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join("example.toml"), example).unwrap();
            let output = tidegate(&directory)
                .args(["check", "--config", "example.toml"])
                .output()
                .unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            let fine = output.status.success() || said.contains("there is no such file");
            assert!(fine, "{}: {example}\n{said}", path.display());
            examples += 1;
        }
    }
    assert!(examples > 2, "{examples} examples");
}

// ---- docs/metrics.md --------------------------------------------------------------------------

/// A metric's type, and the values of each of its labels.
type Metric = (String, BTreeMap<String, BTreeSet<String>>);

/// The samples of an OpenMetrics text by their names.
fn scraped(text: &str) -> BTreeMap<String, Metric> {
    let mut types = BTreeMap::new();
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    for line in text.split("\r\n\r\n").nth(1).unwrap().lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (family, kind) = rest.split_once(' ').unwrap();
            types.insert(family.to_owned(), kind.to_owned());
        }
        let Some((sample, _)) = line
            .rsplit_once(' ')
            .filter(|_| line.starts_with(['t', 'p']))
        else {
            continue;
        };
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        // The samples of a histogram are documented as one.
        let histogram = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .filter(|family| types.get(*family).is_some_and(|kind| kind == "histogram"));
        let (name, labels) = histogram.map_or((name, labels), |family| (family, labels));
        let family = name.trim_end_matches("_total").trim_end_matches("_info");
        let kind = types.get(name).or_else(|| types.get(family)).unwrap();
        let metric = metrics.entry(name.to_owned()).or_default();
        metric.0.clone_from(kind);
        for pair in labels.trim_end_matches('}').split(',') {
            // A bucket's bound is no label of the metric.
            if let Some((label, value)) = pair.split_once('=').filter(|(it, _)| *it != "le") {
                let values = metric.1.entry(label.to_owned()).or_default();
                values.insert(value.trim_matches('"').to_owned());
            }
        }
    }
    metrics
}

#[test]
fn every_metric_is_documented_with_its_type_and_labels() {
    let gateway = Gateway::start();
    let scraped = scraped(&gateway.metrics());
    let page = page("docs/metrics.md");
    let documented: BTreeMap<String, BTreeMap<String, String>> = rows(&page, "metric")
        .into_iter()
        // What the kernel tells, it tells on Linux.
        .filter(|row| cfg!(target_os = "linux") || !row["metric"].starts_with("`process_"))
        .map(|row| (name(&row["metric"]), row))
        .collect();
    let names: Vec<_> = documented.keys().collect();
    assert_eq!(names, scraped.keys().collect::<Vec<_>>());
    for (metric, row) in documented {
        let (kind, labels) = &scraped[&metric];
        assert_eq!(&row["type"], kind, "{metric}");
        let documented: BTreeMap<String, BTreeSet<String>> = row["labels"]
            .split(';')
            .filter_map(|label| {
                let mut words = code(label).into_iter();
                Some((words.next()?, words.collect()))
            })
            .collect();
        let names = |labels: &BTreeMap<String, BTreeSet<String>>| -> Vec<String> {
            labels.keys().cloned().collect()
        };
        assert_eq!(names(&documented), names(labels), "{metric}");
        for (label, values) in documented {
            // Values that come from the configuration are not listed.
            if !values.is_empty() {
                assert_eq!(values, labels[&label], "{metric}");
            }
        }
    }
    let reasons = rows(&page, "reason");
    let reasons: BTreeSet<String> = reasons.iter().map(|row| name(&row["reason"])).collect();
    assert_eq!(
        reasons,
        scraped["tidegate_messages_dropped_total"].1["reason"]
    );
    let refusals = rows(&page, "refusal");
    let refusals: BTreeSet<String> = refusals.iter().map(|row| name(&row["refusal"])).collect();
    assert_eq!(
        refusals,
        scraped["tidegate_listener_refused_total"].1["reason"]
    );
}

// ---- docs/mqtt.md -----------------------------------------------------------------------------

#[test]
fn every_topic_of_the_sys_tree_is_documented() {
    let gateway = Gateway::start();
    let mut documented = BTreeSet::new();
    for row in rows(&page("docs/mqtt.md"), "topic") {
        let topic = format!("$SYS/broker/{}", name(&row["topic"]));
        match topic.strip_suffix("{1,5,15}min") {
            Some(load) => documented.extend(["1", "5", "15"].map(|n| format!("{load}{n}min"))),
            None => assert!(documented.insert(topic), "{} is there twice", row["topic"]),
        }
    }
    let url = format!("mqtt://{}", gateway.address("mqtt"));
    let count = documented.len().to_string();
    let output = tidegate(&gateway.directory)
        .args(["sub", "--url", &url, "-t", "$SYS/#", "--json", "-W", "20"])
        .args(["-n", &count])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let published: BTreeSet<String> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|message| message["topic"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(documented, published);
    // All are retained and nothing else is, so there are no more than these.
    let metrics = gateway.metrics();
    let retained = format!("\ntidegate_retained_messages {count}\n");
    assert!(metrics.contains(&retained), "{metrics}");
}

// ---- All pages --------------------------------------------------------------------------------

fn files_below(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != "node_modules" && !name.starts_with('.') {
            files_below(&path, extension, found);
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
}

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![
        workspace().join("README.md"),
        workspace().join("CONTRIBUTING.md"),
    ];
    files_below(&workspace().join("docs"), "md", &mut pages);
    pages
}

/// What a heading is called in a link, as code hosts have it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    });
    kept.collect()
}

#[test]
fn every_link_leads_somewhere() {
    for path in pages() {
        let text = fs::read_to_string(&path).unwrap();
        let links = text.split("](").skip(1);
        let links = links.filter_map(|rest| rest.split_once(')').map(|(link, _)| link));
        for link in links.filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{}: {link}", path.display());
            if !heading.is_empty() {
                let there = fs::read_to_string(target).unwrap();
                let mut headings = there.lines().filter(|line| line.starts_with('#'));
                let found = headings.any(|line| anchor(line) == heading);
                assert!(found, "{}: {link} has no such heading", path.display());
            }
        }
    }
}

/// A decision in `docs/design` names the tests that hold it.
#[test]
fn every_test_that_a_design_page_names_exists() {
    let mut sources = Vec::new();
    files_below(&workspace(), "rs", &mut sources);
    files_below(&workspace().join("tests/interop"), "py", &mut sources);
    let sources: Vec<String> = sources
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for design in ["bus", "connection", "coap-stream", "http", "listener"]
        .map(|name| format!("docs/design/{name}.md"))
    {
        let text = page(&design);
        let mut named = 0;
        for paragraph in text.split("\n\n") {
            let Some((_, held_by)) = paragraph.split_once("Held by ") else {
                continue;
            };
            for test in code(held_by) {
                let function = test.rsplit("::").next().unwrap();
                let declarations = ["fn", "def"].map(|word| format!("{word} {function}("));
                let is_there = |source: &String| declarations.iter().any(|d| source.contains(d));
                assert!(
                    sources.iter().any(is_there),
                    "{design} names {test}, which does not exist"
                );
                named += 1;
            }
        }
        assert!(named > 0, "{design} names no test");
    }
}
