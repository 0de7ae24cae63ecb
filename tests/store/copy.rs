//! The encoder's bytes, read back by the server.

use crate::support::database::{Kind, TestDatabase};
use bytes::Bytes;
use futures_util::{SinkExt, pin_mut};
use tokio_postgres::Client;
use weir::store::Timestamp;
use weir::store::copy::CopyEncoder;

/// Encodes one field, copies it into a column of `sql_type`, gives what the server shows.
async fn shown(client: &Client, sql_type: &str, encode: impl Fn(&mut CopyEncoder)) -> Result<Option<String>, String> {
    client.batch_execute(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (v {sql_type})")).await.unwrap();
    let mut encoder = CopyEncoder::default();
    encoder.header();
    encoder.row(1);
    encode(&mut encoder);
    encoder.trailer();
    let sink = client.copy_in::<_, Bytes>("COPY t FROM STDIN (FORMAT binary)").await.unwrap();
    pin_mut!(sink);
    sink.send(encoder.take()).await.unwrap();
    sink.finish().await.map_err(|error| error.code().unwrap().code().to_owned())?;
    Ok(client.query_one("SELECT v::text FROM t", &[]).await.unwrap().get(0))
}

#[tokio::test]
async fn extreme_values_come_through() {
    let database = TestDatabase::create(Kind::Plain).await;
    let client = database.client().await;
    client.batch_execute("SET TimeZone = 'UTC'; SET client_min_messages = error").await.unwrap();
    let check = async |sql_type: &str, encode: &dyn Fn(&mut CopyEncoder), expected: Result<Option<&str>, &str>| {
        let shown = shown(&client, sql_type, encode).await;
        assert_eq!(shown.as_ref().map(Option::as_deref).map_err(String::as_str), expected, "{sql_type}");
    };
    check("int2", &|e| e.int2(i16::MIN), Ok(Some("-32768"))).await;
    check("int4", &|e| e.int4(i32::MAX), Ok(Some("2147483647"))).await;
    check("int8", &|e| e.int8(i64::MIN), Ok(Some("-9223372036854775808"))).await;
    check("int8", &|e| e.int8(i64::MAX), Ok(Some("9223372036854775807"))).await;
    check("int8", &|e| e.null(), Ok(None)).await;
    check("float8", &|e| e.float8(f64::MAX), Ok(Some("1.7976931348623157e+308"))).await;
    check("float8", &|e| e.float8(f64::MIN_POSITIVE / 2.0), Ok(Some("1.1125369292536007e-308"))).await;
    check("float8", &|e| e.float8(-0.0), Ok(Some("-0"))).await;
    check("timestamptz", &|e| e.timestamp(Timestamp(0)), Ok(Some("1970-01-01 00:00:00+00"))).await;
    check("timestamptz", &|e| e.timestamp(Timestamp(946_684_799_999_999)), Ok(Some("1999-12-31 23:59:59.999999+00"))).await;
    check("timestamptz", &|e| e.timestamp(Timestamp(i64::MAX)), Ok(Some("infinity"))).await;
    check("timestamptz", &|e| e.timestamp(Timestamp(i64::MIN)), Ok(Some("-infinity"))).await;
    check("timestamptz", &|e| e.timestamp(Timestamp(i64::MIN + 1)), Err("22008")).await;
    check("text", &|e| e.text(""), Ok(Some(""))).await;
    check("text", &|e| e.text("a\0\u{1f30a}"), Ok(Some("a\u{fffd}\u{1f30a}"))).await;
    let long = "ö".repeat(1 << 19);
    check("text", &|e| e.text(&long), Ok(Some(&long))).await;
    check("bytea", &|e| e.bytea(&[0, 255]), Ok(Some("\\x00ff"))).await;
}
