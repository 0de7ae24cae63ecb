//! The README's first device works when its lines are pasted.

use crate::database::{Kind, TestDatabase};
use crate::run::{Place, Said};
use std::path::Path;

const SECTION: &str = "## Your own first device in five minutes";
/// What the README stands in for.
const URL: &str = "postgres://user:password@localhost:5432/iot";
const LISTEN: &str = "127.0.0.1:8080";
const PROGRAMS: &str = "$PWD/target/release";

/// The shell blocks of the section, one after the other.
fn blocks() -> String {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once(SECTION).expect("the README has the section");
    let section = section.split("\n## ").next().expect("a split gives at least one part");
    let blocks = section.split("```sh\n").skip(1).map(|rest| rest.split("```").next().expect("as above"));
    let pasted: String = blocks.collect();
    for stand_in in [URL, LISTEN, PROGRAMS] {
        assert!(pasted.contains(stand_in), "{stand_in} is not in:\n{pasted}");
    }
    pasted
}

#[tokio::test]
async fn readme_first_device_works_as_it_is_pasted() {
    let database = TestDatabase::create(Kind::Timescale).await;
    let place = Place::new(None);
    // The port was free a moment ago, and nobody else is told of it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let programs = Path::new(env!("CARGO_BIN_EXE_weir")).parent().unwrap().display().to_string();
    let pasted = blocks().replace(URL, &database.url()).replace(LISTEN, &listen).replace(PROGRAMS, &programs);
    // A person would see a line fail; what was started in the background ends with the terminal.
    let script = format!("set -euo pipefail\ntrap 'kill %1; wait' EXIT\n{pasted}");
    let mut bash = place.command("timeout");
    bash.args(["120", "bash", "-c", &script]).env("WEIR_HTTP_LISTEN", &listen);
    let said = tokio::task::spawn_blocking(move || Said::from(bash.output().unwrap())).await.unwrap().well();

    let answers = [
        r#"{"status":"accepted"}"#,
        r#""field":"temperature","value":23.4"#,
        r#""step":"1h""#,
        // psql's table.
        "| temperature |",
        "temperature = Number(23.4)",
    ];
    answers.iter().for_each(|answer| assert!(said.out.contains(answer), "{answer} is not in {said:?}"));
}
