//! The meta protocol.

use crate::checks::{Checks, client_error, server_error, status};
use async_memcached::{Client, Error, MetaProtocol, MetaValue, Status};

pub async fn run(client: &mut Client, checks: &mut Checks) -> Result<(), Error> {
    getting(client, checks).await?;
    storing(client, checks).await?;
    deleting(client, checks).await?;
    counting(client, checks).await?;
    recaching(client, checks).await?;
    several(client, checks).await
}

/// The value of a hit with these data.
fn hit(data: &[u8]) -> MetaValue {
    MetaValue {
        data: Some(data.into()),
        status: Some(Status::Value),
        ..MetaValue::default()
    }
}

fn with(status: Status) -> MetaValue {
    MetaValue {
        status: Some(status),
        ..MetaValue::default()
    }
}

/// Without what depends on when it was asked: seconds may have gone by on a loaded machine.
fn timeless(got: Result<Option<MetaValue>, Error>, ttl: i64) -> Result<Option<MetaValue>, Error> {
    let mut got = got?;
    if let Some(value) = &mut got {
        let near = |left: i64| (ttl - 5..=ttl).contains(&left);
        if value.ttl_remaining.is_some_and(near) {
            value.ttl_remaining = Some(ttl);
        }
        value.last_accessed = value.last_accessed.map(|seconds| seconds / 5);
    }
    Ok(got)
}

async fn getting(client: &mut Client, checks: &mut Checks) -> Result<(), Error> {
    let got = client.meta_get("m:none", false, None, None).await;
    checks.is("meta_get, a miss", got, Ok(None));
    let got = client.meta_get("m:none", true, None, Some(&["v"])).await;
    checks.is("meta_get, a quiet miss", got, Ok(None));
    let flags = ["T100", "F5"];
    let set = client
        .meta_set("m:a", "hello", false, None, Some(&flags))
        .await;
    checks.is("meta_set", set, Ok(None));
    let got = client.meta_get("m:a", false, None, None).await;
    checks.is("meta_get, no flags", got, Ok(None));
    let got = client.meta_get("m:a", false, None, Some(&["v"])).await;
    checks.is("meta_get v", got, Ok(Some(hit(b"hello"))));
    let all = ["v", "h", "l", "t", "k", "s", "f"];
    let got = client
        .meta_get("m:a", false, Some(b"opaque"), Some(&all))
        .await;
    let mut expected = MetaValue {
        key: Some(b"m:a".into()),
        flags: Some(5),
        hit_before: Some(true),
        last_accessed: Some(0),
        ttl_remaining: Some(100),
        size: Some(5),
        opaque_token: Some(b"opaque".into()),
        ..hit(b"hello")
    };
    checks.is(
        "meta_get, all flags",
        timeless(got, 100),
        Ok(Some(expected.clone())),
    );
    let got = client
        .meta_get("m:a", true, Some(b"opaque"), Some(&all))
        .await;
    checks.is(
        "meta_get, quiet",
        timeless(got, 100),
        Ok(Some(expected.clone())),
    );
    let got = client
        .meta_get("m:a", false, Some(b"opaque"), Some(&all[1..]))
        .await;
    expected.data = None;
    expected.status = Some(Status::Exists);
    checks.is("meta_get, no value", timeless(got, 100), Ok(Some(expected)));
    let got = client
        .meta_get("m:a", false, None, Some(&["T300", "t"]))
        .await;
    let expected = MetaValue {
        ttl_remaining: Some(300),
        ..with(Status::Exists)
    };
    checks.is("meta_get T", timeless(got, 300), Ok(Some(expected)));
    // The key in base64.
    let got = client
        .meta_get("bTph", false, None, Some(&["b", "v"]))
        .await;
    checks.is("meta_get b", got, Ok(Some(hit(b"hello"))));
    let got = client.meta_get("m:a", false, None, Some(&["Q"])).await;
    checks.is("meta_get, no such flag", got, client_error("invalid flag"));
    Ok(())
}

async fn storing(client: &mut Client, checks: &mut Checks) -> Result<(), Error> {
    let mut set = async |key: &str, value: &str, quiet, flags: &[&str]| {
        client.meta_set(key, value, quiet, None, Some(flags)).await
    };
    let not_stored = || status(Status::NotStored);
    checks.is(
        "meta_set ME, there",
        set("m:a", "x", false, &["ME"]).await,
        not_stored(),
    );
    checks.is(
        "meta_set ME",
        set("m:b", "middle", false, &["ME"]).await,
        Ok(None),
    );
    checks.is(
        "meta_set MA",
        set("m:b", " end", false, &["MA"]).await,
        Ok(None),
    );
    checks.is(
        "meta_set MP",
        set("m:b", "begin ", false, &["MP"]).await,
        Ok(None),
    );
    checks.is(
        "meta_set MA, a miss",
        set("m:none", "x", false, &["MA"]).await,
        not_stored(),
    );
    checks.is(
        "meta_set MP, a miss",
        set("m:none", "x", false, &["MP"]).await,
        not_stored(),
    );
    checks.is(
        "meta_set MR, a miss",
        set("m:none", "x", false, &["MR"]).await,
        not_stored(),
    );
    checks.is(
        "meta_set MA N",
        set("m:new", "x", false, &["MA", "N100"]).await,
        Ok(None),
    );
    checks.is(
        "meta_set MR",
        set("m:new", "y", false, &["MR"]).await,
        Ok(None),
    );
    checks.is(
        "meta_set, quiet",
        set("m:q", "x", true, &[]).await,
        Ok(None),
    );
    checks.is(
        "meta_set ME, quiet",
        set("m:q", "y", true, &["ME"]).await,
        not_stored(),
    );
    let refused = client_error("invalid mode for ms M token");
    checks.is(
        "meta_set, no such mode",
        set("m:q", "y", false, &["MX"]).await,
        refused,
    );
    let missing = status(Status::NotFound);
    checks.is(
        "meta_set C, a miss",
        set("m:none", "x", false, &["C1"]).await,
        missing,
    );
    let exists = || status(Status::Exists);
    checks.is(
        "meta_set C, another",
        set("m:q", "y", false, &["C1"]).await,
        exists(),
    );
    let stored = set("m:q", "z", false, &["E1000", "c", "k", "s"]).await;
    let expected = MetaValue {
        key: Some(b"m:q".into()),
        cas: Some(1000),
        size: Some(1),
        ..with(Status::Stored)
    };
    checks.is("meta_set E", stored, Ok(Some(expected)));
    checks.is(
        "meta_set C",
        set("m:q", "zz", false, &["C1000", "E1001"]).await,
        Ok(None),
    );
    // An older value is taken too, and marked.
    checks.is(
        "meta_set C I",
        set("m:q", "old", false, &["C500", "I"]).await,
        Ok(None),
    );
    let large = "v".repeat(1024 * 1024 + 1);
    let refused = server_error("object too large for cache");
    checks.is(
        "meta_set too much",
        set("m:large", &large, false, &[]).await,
        refused,
    );

    let set = client
        .meta_set("m:o", 7u64, false, Some(b"token"), None)
        .await;
    let expected = MetaValue {
        opaque_token: Some(b"token".into()),
        ..with(Status::Stored)
    };
    checks.is("meta_set O", set, Ok(Some(expected)));
    for (key, data) in [
        ("m:b", &b"begin middle end"[..]),
        ("m:new", b"y"),
        ("m:o", b"7"),
    ] {
        let got = client.meta_get(key, false, None, Some(&["v"])).await;
        checks.is(key, got, Ok(Some(hit(data))));
    }
    let got = client.meta_get("m:q", false, None, Some(&["v"])).await;
    let expected = MetaValue {
        is_stale: Some(true),
        is_recache_winner: Some(true),
        ..hit(b"old")
    };
    checks.is("meta_get, stale", got, Ok(Some(expected)));
    Ok(())
}

async fn deleting(client: &mut Client, checks: &mut Checks) -> Result<(), Error> {
    let gone = client.meta_delete("m:none", false, None, None).await;
    checks.is("meta_delete, a miss", gone, status(Status::NotFound));
    let gone = client.meta_delete("m:new", false, None, None).await;
    checks.is("meta_delete", gone, Ok(None));
    let gone = client.meta_delete("m:b", true, None, None).await;
    checks.is("meta_delete, quiet", gone, Ok(None));
    let gone = client.meta_delete("m:b", true, None, None).await;
    checks.is("meta_delete, a quiet miss", gone, status(Status::NotFound));
    let gone = client.meta_delete("m:o", false, None, Some(&["C1"])).await;
    checks.is("meta_delete C, another", gone, status(Status::Exists));
    let gone = client
        .meta_delete("m:o", false, Some(b"token"), Some(&["k"]))
        .await;
    let expected = MetaValue {
        key: Some(b"m:o".into()),
        opaque_token: Some(b"token".into()),
        ..with(Status::Deleted)
    };
    checks.is("meta_delete k O", gone, Ok(Some(expected)));
    let got = client.meta_get("m:o", false, None, Some(&["v"])).await;
    checks.is("meta_get the deleted", got, Ok(None));

    let marked = client
        .meta_delete("m:a", false, None, Some(&["I", "T30"]))
        .await;
    checks.is("meta_delete I T", marked, Ok(None));
    let got = client.meta_get("m:a", false, None, Some(&["t", "v"])).await;
    let mut expected = MetaValue {
        ttl_remaining: Some(30),
        is_stale: Some(true),
        is_recache_winner: Some(true),
        ..hit(b"hello")
    };
    checks.is(
        "meta_get, won",
        timeless(got, 30),
        Ok(Some(expected.clone())),
    );
    let got = client.meta_get("m:a", false, None, Some(&["t", "v"])).await;
    expected.is_recache_winner = Some(false);
    checks.is("meta_get, lost", timeless(got, 30), Ok(Some(expected)));
    let emptied = client.meta_delete("m:a", false, None, Some(&["x"])).await;
    checks.is("meta_delete x", emptied, Ok(None));
    let got = client
        .meta_get("m:a", false, None, Some(&["v", "s", "f"]))
        .await;
    let expected = MetaValue {
        data: None,
        size: Some(0),
        flags: Some(0),
        ..hit(b"")
    };
    checks.is("meta_get the emptied", got, Ok(Some(expected)));
    Ok(())
}

async fn counting(client: &mut Client, checks: &mut Checks) -> Result<(), Error> {
    let missing = || status(Status::NotFound);
    let counted = client.meta_increment("m:n", false, None, None, None).await;
    checks.is("meta_increment, a miss", counted, missing());
    let counted = client.meta_decrement("m:n", false, None, None, None).await;
    checks.is("meta_decrement, a miss", counted, missing());
    let counted = client.meta_increment("m:n", true, None, None, None).await;
    checks.is("meta_increment, a quiet miss", counted, missing());
    let create = ["N100", "J13", "v", "t"];
    let counted = client
        .meta_increment("m:n", false, None, Some(5), Some(&create))
        .await;
    let mut expected = MetaValue {
        ttl_remaining: Some(100),
        ..hit(b"13")
    };
    // Shown before it is set.
    let shown = counted.map(|value| value.and_then(|value| value.data));
    checks.is("meta_increment N J", shown, Ok(Some(b"13".to_vec())));
    let counted = client
        .meta_increment("m:n", false, None, None, Some(&["v", "t"]))
        .await;
    expected.data = Some(b"14".into());
    checks.is("meta_increment", timeless(counted, 100), Ok(Some(expected)));
    let counted = client
        .meta_increment("m:n", false, None, Some(86), Some(&["v"]))
        .await;
    checks.is("meta_increment D", counted, Ok(Some(hit(b"100"))));
    let counted = client
        .meta_decrement("m:n", false, None, None, Some(&["v"]))
        .await;
    checks.is("meta_decrement", counted, Ok(Some(hit(b"99"))));
    let counted = client
        .meta_decrement("m:n", false, None, Some(100), Some(&["v"]))
        .await;
    checks.is("meta_decrement below 0", counted, Ok(Some(hit(b"0"))));
    let counted = client
        .meta_increment("m:n", true, None, Some(2), None)
        .await;
    checks.is("meta_increment, quiet", counted, Ok(None));
    let counted = client.meta_decrement("m:n", true, None, None, None).await;
    checks.is("meta_decrement, quiet", counted, Ok(None));
    let counted = client.meta_increment("m:n", false, None, None, None).await;
    checks.is("meta_increment, no flags", counted, Ok(None));
    let flags = ["k", "E2000", "c"];
    let counted = client
        .meta_increment("m:n", false, Some(b"token"), None, Some(&flags))
        .await;
    let expected = MetaValue {
        key: Some(b"m:n".into()),
        cas: Some(2000),
        opaque_token: Some(b"token".into()),
        ..with(Status::Stored)
    };
    checks.is("meta_increment k E c O", counted, Ok(Some(expected)));
    let counted = client
        .meta_increment("m:n", false, None, None, Some(&["C1"]))
        .await;
    checks.is("meta_increment C, another", counted, status(Status::Exists));
    let counted = client
        .meta_decrement("m:n", false, None, None, Some(&["C2000", "v"]))
        .await;
    checks.is("meta_decrement C", counted, Ok(Some(hit(b"2"))));
    let set = client.meta_set("m:n", u64::MAX, false, None, None).await;
    checks.is("meta_set the most", set, Ok(None));
    let counted = client
        .meta_increment("m:n", false, None, Some(3), Some(&["v"]))
        .await;
    checks.is("meta_increment beyond", counted, Ok(Some(hit(b"2"))));
    let set = client.meta_set("m:n", "text", false, None, None).await;
    checks.is("meta_set text", set, Ok(None));
    let refused = || client_error("cannot increment or decrement non-numeric value");
    let counted = client.meta_increment("m:n", false, None, None, None).await;
    checks.is("meta_increment text", counted, refused());
    let counted = client.meta_decrement("m:n", false, None, None, None).await;
    checks.is("meta_decrement text", counted, refused());
    Ok(())
}

/// The first client that misses is to fill the item, and the others learn that one is at it.
async fn recaching(client: &mut Client, checks: &mut Checks) -> Result<(), Error> {
    for (what, winner) in [("won", true), ("lost", false)] {
        let got = client
            .meta_get("m:stub", false, None, Some(&["N30", "v"]))
            .await;
        let expected = MetaValue {
            data: None,
            is_recache_winner: Some(winner),
            ..hit(b"")
        };
        checks.is(&format!("meta_get N, {what}"), got, Ok(Some(expected)));
    }
    let set = client
        .meta_set("m:soon", "x", false, None, Some(&["T10"]))
        .await;
    checks.is("meta_set T", set, Ok(None));
    for (what, winner) in [("won", true), ("lost", false)] {
        let got = client
            .meta_get("m:soon", false, None, Some(&["R30", "v"]))
            .await;
        let expected = MetaValue {
            is_recache_winner: Some(winner),
            ..hit(b"x")
        };
        checks.is(&format!("meta_get R, {what}"), got, Ok(Some(expected)));
    }
    Ok(())
}

async fn several(client: &mut Client, checks: &mut Checks) -> Result<(), Error> {
    let pairs = [("m:1", "1"), ("m:2", "2"), ("m:3", "3")];
    let stored = client.meta_set_multi(&pairs, Some(&["T100"])).await;
    checks.is("meta_set_multi", stored, Ok(Vec::new()));
    let pairs = [("m:3", "x"), ("m:4", "4")];
    let refused = client.meta_set_multi(&pairs, Some(&["ME"])).await;
    let expected = MetaValue {
        key: Some(b"m:3".into()),
        ..with(Status::NotStored)
    };
    checks.is("meta_set_multi ME", refused, Ok(vec![expected]));
    let keys = ["m:1", "m:none", "m:3", "m:4"];
    let named = |key: &str, value| MetaValue {
        key: Some(key.into()),
        ..value
    };
    let got = client.meta_get_multi(&keys, Some(&["v"])).await;
    let expected = vec![
        named("m:1", hit(b"1")),
        named("m:3", hit(b"3")),
        named("m:4", hit(b"4")),
    ];
    checks.is("meta_get_multi v", got, Ok(expected));
    let got = client.meta_get_multi(&keys[..2], None).await;
    let expected = vec![named("m:1", with(Status::Exists))];
    checks.is("meta_get_multi", got, Ok(expected));
    let got = client.meta_get_multi(&keys[1..2], Some(&["v"])).await;
    checks.is("meta_get_multi, all missing", got, Ok(Vec::new()));

    // Thousands of requests in one piece.
    let many: Vec<_> = (0..2000)
        .map(|number| (format!("m:many{number}"), number))
        .collect();
    let many: Vec<_> = many
        .iter()
        .map(|(key, number)| (key, *number as u32))
        .collect();
    let stored = client.meta_set_multi(&many, None).await;
    checks.is("meta_set_multi, many", stored, Ok(Vec::new()));
    let keys: Vec<_> = many.iter().map(|(key, _)| key).collect();
    let got = client.meta_get_multi(&keys, Some(&["v"])).await;
    let expected = many
        .iter()
        .map(|(key, number)| named(key, hit(number.to_string().as_bytes())));
    checks.is(
        "meta_get_multi, many",
        got,
        Ok(expected.collect::<Vec<_>>()),
    );
    Ok(())
}
