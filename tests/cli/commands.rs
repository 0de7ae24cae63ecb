//! What needs no daemon: the registry, the schema, decoders, and the log at rest.

use crate::database::{Kind, TestDatabase};
use crate::run::{Place, Said};
use serde_json::{Value, json};

const SCRIPT: &str = "function decodeUplink(input) { return {data: {length: input.bytes.length}} }";

/// The values of a key in all rows, sorted.
fn all<'a>(rows: &'a [Value], key: &str) -> Vec<&'a str> {
    let mut values: Vec<_> = rows.iter().map(|row| row[key].as_str().unwrap()).collect();
    values.sort_unstable();
    values
}

#[tokio::test]
async fn what_is_registered_is_listed_shown_and_removed() {
    let database = TestDatabase::create(Kind::Plain).await;
    let place = Place::new(Some(database.url()));
    place.weir(&["tenant", "list"]).refused(&["weir migrate"]);
    assert!(place.weir(&["migrate"]).well().out.contains("The schema is up to date (PostgreSQL)"));
    assert_eq!(place.weir(&["tenant", "list"]).well().out, "None.\n");

    place.weir(&["tenant", "add", "acme", "--zone", "Europe/Paris"]).well();
    place.weir(&["tenant", "add", "globex"]).well();
    place.weir(&["tenant", "add", "initech", "--zone", "Europe/Pariss"]).refused(&["Europe/Pariss"]);
    place.weir(&["template", "add", "elsys", "--builtin"]).well();
    place.weir(&["template", "add", "elsyss", "--builtin"]).refused(&["elsyss", "there are", "elsys"]);
    let script = place.dir().join("mine.js");
    std::fs::write(&script, SCRIPT).unwrap();
    let script = script.to_str().unwrap();
    place.weir(&["template", "add", "mine", "--decoder", script, "--tenant", "acme"]).well();
    place.weir(&["template", "add", "theirs"]).refused(&["who decodes?", "--upstream"]);
    place.weir(&["decoder", "add", script, "--name", "again"]).well();
    std::fs::write(place.dir().join("broken.js"), "function decodeUplink( {}").unwrap();
    place.weir(&["decoder", "add", "broken.js"]).refused(&["broken.js", "SyntaxError"]);
    let device = ["device", "add", "24E124136B502217", "--tenant", "acme", "--template", "mine", "--variable", "height=2"];
    place.weir(&device).well();
    place.weir(&["device", "add", "pump", "--tenant", "acme", "--template", "none"]).refused(&["none"]);
    place.weir(&["device", "add", "a b", "--tenant", "acme", "--template", "mine"]).refused(&["letters, digits"]);
    place.weir(&["device", "add", "24e124136b502217", "--tenant", "globex", "--template", "elsys"]).well();
    let token = place.weir(&["token", "add", "ttn", "--tenant", "acme", "--write", "--provision", "elsys"]).well();
    assert!(token.out.starts_with("weir_") && token.err.contains("only time"), "{token:?}");
    place.weir(&["token", "add", "nothing", "--tenant", "acme"]).refused(&["--write", "--read"]);

    let list = |what: &str, more: &[&str]| place.weir(&[&[what, "list", "--json"], more].concat()).well().rows();
    assert_eq!(all(&list("tenant", &[]), "name"), ["acme", "globex"]);
    assert_eq!(all(&list("tenant", &["--limit", "1"]), "name").len(), 1);
    assert_eq!(all(&list("template", &[]), "name"), ["elsys", "mine"]);
    assert_eq!(all(&list("device", &["--tenant", "acme"]), "id"), ["24e124136b502217"]);
    assert_eq!(list("device", &[]).len(), 2);
    assert_eq!(all(&list("token", &[]), "name"), ["ttn"]);
    place.weir(&["class", "add", "brief", "--compress-after", "6 hours"]).well();
    place.weir(&["class", "add", "loose", "--compress-after", "never"]).well();
    let classes = list("class", &[]);
    let after = |name: &str| &classes.iter().find(|class| class["name"] == name).unwrap()["compress_after"];
    assert_eq!([after("standard"), after("brief"), after("loose")], [&json!("2 days"), &json!("06:00:00"), &json!(null)]);
    let table = place.weir(&["device", "list"]).well().out;
    assert!(table.lines().count() == 3 && table.contains("24e124136b502217"), "{table}");

    let show = |what: &str, name: &str| place.weir(&[what, "show", name, "--json"]).well().rows().remove(0);
    assert_eq!(show("tenant", "acme")["zone"], "Europe/Paris");
    assert_eq!(show("template", "mine")["name"], "mine");
    let device = place.weir(&["device", "show", "24E124136B502217", "--tenant", "acme", "--json"]).well().rows().remove(0);
    assert_eq!((&device["template"], &device["variables"]), (&json!("mine"), &json!({"height": "2"})));
    let shown = place.weir(&["token", "show", "ttn", "--json"]).well().out;
    assert!(!shown.contains(token.out.trim()), "a token is shown once");

    let remove = |what: &str, name: &str| place.weir(&[what, "remove", name, "--tenant", "acme"]);
    remove("device", "24E124136B502217").well();
    assert_eq!(all(&list("device", &[]), "tenant"), ["globex"], "another tenant's device of that name stays");
    remove("device", "24e124136b502217").refused(&["24e124136b502217"]);
    remove("token", "ttn").well();
    remove("template", "mine").well();
    assert_eq!(all(&list("template", &[]), "name"), ["elsys"]);
    assert!(list("token", &[]).is_empty());
    place.weir(&["tenant", "remove", "acme"]).well();
    assert_eq!(all(&list("tenant", &[]), "name"), ["globex"]);
}

#[tokio::test]
async fn quotas_are_set_shown_and_lifted() {
    let database = TestDatabase::create(Kind::Plain).await;
    let place = Place::new(Some(database.url()));
    place.weir(&["migrate"]).well();
    let quota = |name: &str| {
        let shown = place.weir(&["tenant", "show", name, "--json"]).well().rows().remove(0);
        ["per_second_max", "per_day_max", "over_quota", "thin_interval"].map(|column| shown[column].clone())
    };
    place.weir(&["tenant", "add", "acme"]).well();
    assert_eq!(quota("acme"), [json!(null), json!(null), json!("quarantine"), json!("00:15:00")]);
    place.weir(&["tenant", "add", "globex", "--per-second", "50", "--over-quota", "thin", "--thin-interval", "1 hour"]).well();
    assert_eq!(quota("globex"), [json!(50), json!(null), json!("thin"), json!("01:00:00")]);
    place.weir(&["tenant", "set", "globex", "--per-day", "20000"]).well();
    assert_eq!(quota("globex"), [json!(50), json!(20000), json!("thin"), json!("01:00:00")], "what is not said stays");
    place.weir(&["tenant", "set", "globex", "--per-second", "none", "--over-quota", "quarantine"]).well();
    assert_eq!(quota("globex"), [json!(null), json!(20000), json!("quarantine"), json!("01:00:00")]);
    place.weir(&["tenant", "set", "acme"]).refused(&["nothing is to change", "--per-day"]);
    place.weir(&["tenant", "set", "none", "--per-day", "5"]).refused(&["there is no tenant", "weir tenant list"]);
    place.weir(&["tenant", "add", "initech", "--thin-interval", "2 days"]).refused(&["thin_interval"]);
    assert_eq!(place.weir(&["tenant", "list", "--json"]).well().rows().len(), 2, "it was not added without its quota");
    let usage = place.weir(&["tenant", "set", "acme", "--per-day", "0"]);
    assert!(usage.err.contains("a whole number from 1 on, or none"), "{usage:?}");
}

#[tokio::test]
async fn a_wish_for_plain_tables_is_kept_where_timescaledb_is() {
    let database = TestDatabase::create(Kind::Timescale).await;
    let place = Place::new(Some(database.url()));
    let migrate = || place.command(env!("CARGO_BIN_EXE_weir")).arg("migrate").env("WEIR_DATABASE_TIMESCALEDB", "false").output();
    for _ in 0..2 {
        let said = String::from_utf8(migrate().unwrap().stdout).unwrap();
        assert_eq!(said, "The schema is up to date (PostgreSQL).\n");
    }
    let sql = "SELECT value FROM settings WHERE key = 'layout'";
    let layout: String = database.client().await.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(layout, "partitions");
}

#[test]
fn a_payload_is_decoded_by_a_template_or_a_file() {
    let place = Place::new(None);
    let decode = |payload: &str, more: &[&str]| place.weir(&[&["decode", payload, "--fport", "85"], more].concat());
    let said = decode("0367ea0004684f", &["--template", "milesight-em300-th"]).well().out;
    assert!(said.contains("temperature = Number(23.4)") && said.contains("humidity = Number(39.5)"), "{said}");
    std::fs::write(place.dir().join("mine.js"), SCRIPT).unwrap();
    for payload in ["01 02 ff", "AQL/"] {
        let said = decode(payload, &["--decoder", "mine.js"]).well().out;
        assert!(said.contains("length = Number(3.0)"), "{said}");
    }
    decode("01 0!", &["--decoder", "mine.js"]).refused(&["neither hex nor base64"]);
    decode("01", &["--template", "none"]).refused(&["none"]);
    decode("01", &["--decoder", "absent.js"]).refused(&["absent.js"]);
    decode("01", &[]).refused(&["--decoder"]);
    // Compiled code is kept where nobody else can put any.
    assert!(place.dir().join(".cache/weir/decode").is_dir());
}

#[test]
fn commands_about_what_is_here_need_no_database() {
    let place = Place::new(None);
    place.weir(&["log", "status"]).refused(&["there is no log"]);
    place.weir(&["status", "--url", "http://127.0.0.1:1"]).refused(&["no weir answers", "weir serve"]);
    place.weir(&["serve"]).refused(&["database.url is missing", "DATABASE_URL"]);
    let misspelt = place.command(env!("CARGO_BIN_EXE_weir")).args(["log", "status"]).env("WEIR_LOG_DIRR", "/data").output();
    Said::from(misspelt.unwrap()).refused(&["WEIR_LOG_DIRR: there is no such setting"]);
    let mut loud = place.command(env!("CARGO_BIN_EXE_weir"));
    loud.args(["serve", "--database-url", "postgres://x/y"]).env("RUST_LOG", "weir=loud");
    Said::from(loud.output().unwrap()).refused(&["RUST_LOG", "weir=loud"]);
}
