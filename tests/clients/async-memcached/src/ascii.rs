//! The classic protocol.

use crate::checks::{Checks, client_error, server_error, status};
use async_memcached::{AsciiProtocol, Client, Error, ErrorKind, Status, Value};
use std::time::Duration;
use tokio::time::sleep;

const NOT_A_NUMBER: &str = "cannot increment or decrement non-numeric value";

/// Items have to be smaller, as servers are by default.
const LARGE: usize = 1024 * 1024;

pub async fn run(client: &mut Client, checks: &mut Checks) -> Result<(), Error> {
    storing(client, checks).await?;
    expiring(client, checks).await?;
    several(client, checks).await?;
    counting(client, checks).await?;
    deleting(client, checks).await
}

fn value(key: &str, data: &[u8], flags: u32) -> Value {
    Value {
        key: key.into(),
        cas: None,
        flags: Some(flags),
        data: Some(data.into()),
    }
}

async fn storing(client: &mut Client, checks: &mut Checks) -> Result<(), Error> {
    let set = client.set("a", "text", None, None).await;
    checks.is("set", set, Ok(()));
    checks.is(
        "get",
        client.get("a").await,
        Ok(Some(value("a", b"text", 0))),
    );
    checks.is("get a miss", client.get("missing").await, Ok(None));
    let every_byte: Vec<u8> = (0..=255).chain(*b"\r\nEND\r\n").collect();
    let set = client
        .set("b", &every_byte[..], Some(100), Some(u32::MAX))
        .await;
    checks.is("set bytes", set, Ok(()));
    let got = client.get("b").await;
    checks.is(
        "get bytes",
        got,
        Ok(Some(value("b", &every_byte, u32::MAX))),
    );
    checks.is(
        "set a number",
        client.set("n", u64::MAX, None, None).await,
        Ok(()),
    );
    let got = client.get("n").await;
    checks.is(
        "get a number",
        got,
        Ok(Some(value("n", b"18446744073709551615", 0))),
    );
    let text = String::from("text");
    checks.is(
        "set a String",
        client.set("s", &text, None, None).await,
        Ok(()),
    );
    checks.is(
        "set nothing",
        client.set("empty", "", None, None).await,
        Ok(()),
    );
    checks.is(
        "get nothing",
        client.get("empty").await,
        Ok(Some(value("empty", b"", 0))),
    );

    let long = "k".repeat(250);
    checks.is(
        "set a long key",
        client.set(&long, "x", None, None).await,
        Ok(()),
    );
    checks.is(
        "get a long key",
        client.get(&long).await,
        Ok(Some(value(&long, b"x", 0))),
    );
    let large = vec![b'v'; LARGE - 1024];
    checks.is(
        "set much",
        client.set("large", &large[..], None, None).await,
        Ok(()),
    );
    let got = client.get("large").await;
    checks.is("get much", got, Ok(Some(value("large", &large, 0))));
    let too_large = vec![b'v'; LARGE + 1];
    let refused = || server_error("object too large for cache");
    let set = client.set("large", &too_large[..], None, None).await;
    checks.is("set too much", set, refused());
    // What could not be replaced is not served any more either.
    checks.is("get what went", client.get("large").await, Ok(None));
    let add = client.add("large", &too_large[..], None, None).await;
    checks.is("add too much", add, refused());

    let add = client.add("a", "other", None, None).await;
    checks.is("add to what is there", add, status(Status::NotStored));
    checks.is(
        "add",
        client.add("c", 5u8, Some(100), Some(7)).await,
        Ok(()),
    );
    checks.is(
        "get the added",
        client.get("c").await,
        Ok(Some(value("c", b"5", 7))),
    );
    Ok(())
}

async fn expiring(client: &mut Client, checks: &mut Checks) -> Result<(), Error> {
    checks.is(
        "set past",
        client.set("past", "x", Some(-1), None).await,
        Ok(()),
    );
    checks.is("get past", client.get("past").await, Ok(None));
    // A server takes up to a second off what is relative, and a loaded machine another.
    checks.is(
        "set short",
        client.set("short", "x", Some(3), None).await,
        Ok(()),
    );
    let got = client.get("short").await;
    checks.is("get short", got, Ok(Some(value("short", b"x", 0))));
    let mut left = 120;
    while left > 0 && client.get("short").await?.is_some() {
        left -= 1;
        sleep(Duration::from_millis(50)).await;
    }
    checks.is("what has expired is gone", left > 0, true);
    checks.is(
        "add anew",
        client.add("short", "y", None, None).await,
        Ok(()),
    );
    Ok(())
}

async fn several(client: &mut Client, checks: &mut Checks) -> Result<(), Error> {
    let (one, two, three) = (("m1", "1"), ("m2", "2"), ("m3", "3"));
    let (first, second) = ([one, two], [two, three]);
    let stored = client.set_multi(&first, Some(100), Some(9)).await?;
    for (key, _) in &first {
        checks.is("set_multi", &stored[key], &Ok(()));
    }
    let added = client.add_multi(&second, None, None).await?;
    checks.is(
        "add_multi to what is there",
        &added[&"m2"],
        &status(Status::NotStored),
    );
    checks.is("add_multi", &added[&"m3"], &Ok(()));
    let too_long = "k".repeat(251);
    let pairs = [(too_long.as_str(), "x"), ("m4", "4")];
    let stored = client.set_multi(&pairs, None, None).await?;
    let refused = status(Status::Error(ErrorKind::KeyTooLong));
    checks.is("set_multi, key too long", &stored[&pairs[0].0], &refused);
    checks.is("set_multi, its neighbour", &stored[&"m4"], &Ok(()));

    let expected = vec![
        value("m1", b"1", 9),
        value("m3", b"3", 0),
        value("m4", b"4", 0),
    ];
    let got = client.get_multi(["m1", "missing", "m3", "m4"]).await;
    checks.is("get_multi", got, Ok(expected.clone()));
    #[allow(deprecated, reason = "it is one of the operations there are")]
    let got = client.get_many(["m1", "m3", "m4"]).await;
    checks.is("get_many", got, Ok(expected));
    let got = client.get_multi(["missing", "missing too"]).await;
    checks.is("get_multi, all missing", got, status(Status::NotFound));
    Ok(())
}

async fn counting(client: &mut Client, checks: &mut Checks) -> Result<(), Error> {
    checks.is(
        "set a counter",
        client.set("n", 10u64, None, None).await,
        Ok(()),
    );
    checks.is("increment", client.increment("n", 1).await, Ok(11));
    checks.is(
        "increment by more",
        client.increment("n", 100).await,
        Ok(111),
    );
    checks.is("decrement", client.decrement("n", 11).await, Ok(100));
    checks.is("decrement below 0", client.decrement("n", 101).await, Ok(0));
    // What has become shorter is filled up with spaces.
    let got = client.get("n").await;
    checks.is("get a counter", got, Ok(Some(value("n", b"0  ", 0))));
    checks.is(
        "increment_no_reply",
        client.increment_no_reply("n", 9).await,
        Ok(()),
    );
    checks.is(
        "decrement_no_reply",
        client.decrement_no_reply("n", 4).await,
        Ok(()),
    );
    checks.is("and the sum", client.increment("n", 0).await, Ok(5));
    checks.is(
        "set the most",
        client.set("n", u64::MAX, None, None).await,
        Ok(()),
    );
    checks.is("increment beyond", client.increment("n", 2).await, Ok(1));
    let missing = || status(Status::NotFound);
    checks.is(
        "increment a miss",
        client.increment("missing", 1).await,
        missing(),
    );
    checks.is(
        "decrement a miss",
        client.decrement("missing", 1).await,
        missing(),
    );
    checks.is(
        "increment text",
        client.increment("a", 1).await,
        client_error(NOT_A_NUMBER),
    );
    checks.is(
        "decrement text",
        client.decrement("a", 1).await,
        client_error(NOT_A_NUMBER),
    );
    let unheard = client.increment_no_reply("missing", 1).await;
    checks.is("increment_no_reply, a miss", unheard, Ok(()));
    checks.is("get after it", client.get("missing").await, Ok(None));
    Ok(())
}

async fn deleting(client: &mut Client, checks: &mut Checks) -> Result<(), Error> {
    checks.is("delete", client.delete("m1").await, Ok(()));
    checks.is(
        "delete again",
        client.delete("m1").await,
        status(Status::NotFound),
    );
    checks.is(
        "delete_no_reply",
        client.delete_no_reply("m2").await,
        Ok(()),
    );
    let unheard = client.delete_no_reply("m2").await;
    checks.is("delete_no_reply again", unheard, Ok(()));
    let unheard = client.delete_multi_no_reply(&["m3", "missing", "s"]).await;
    checks.is("delete_multi_no_reply", unheard, Ok(()));
    let left = client.get_multi(["m1", "m2", "m3", "m4", "s"]).await;
    checks.is("what is left", left, Ok(vec![value("m4", b"4", 0)]));
    Ok(())
}
