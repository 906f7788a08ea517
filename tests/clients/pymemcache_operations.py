"""Every operation of pymemcache against one server, see scripts/clients.

    python3 pymemcache_operations.py PORT

The same results are asserted whatever the server is, so that a run against a real memcached shows
whether they are the right ones. The last operation ends the server; it must obey `shutdown`.
Prints each result that is not as expected, then how many operations were checked. Exits with 1 if
one was not as expected, or if a method of the client was left out.
"""

import base64
import re
import socket
import sys
import threading
import time

from pymemcache.client.base import Client, PooledClient
from pymemcache.exceptions import (
    MemcacheClientError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
    MemcacheUnknownCommandError,
    MemcacheUnknownError,
)

# Methods that send nothing.
WITHOUT_A_COMMAND = {"check_key", "close", "disconnect_all"}

DAY = 86_400
# For what comes with a tick of the server's clock, in seconds.
PATIENCE = 6.0

# Results that are not as expected, after which there is no point in going on.
ENOUGH = 20


class ShowFlags:
    """Values as they are; with client flags, both."""

    def serialize(self, key, value):
        return value, 0

    def deserialize(self, key, value, flags):
        return (value, flags) if flags else value


def fits(got, expected):
    """`expected` is the result itself, a pattern of bytes, or a function that judges; where a
    method is to fail, the class of the exception, alone or with some of its text."""
    if isinstance(expected, re.Pattern):
        return isinstance(got, bytes) and expected.fullmatch(got) is not None
    if isinstance(expected, type):
        return type(got) is expected
    if isinstance(expected, tuple) and isinstance(expected[0], type):
        return type(got) is expected[0] and expected[1] in str(got)
    if callable(expected):
        return expected(got)
    return got == expected


def shown(result):
    judged = callable(result) and not isinstance(result, type)
    return "something else" if judged else f"{result!r}"[:200]


class Checks:
    """Counts the operations, and notes which methods of the client they were."""

    def __init__(self, port):
        self.server = ("127.0.0.1", port)
        self.client = self.connect()
        self.checked = 0
        self.wrong = 0
        self.used = set()

    def connect(self, kind=Client, **options):
        options = {"serde": ShowFlags(), "default_noreply": False, **options}
        return kind(self.server, connect_timeout=5, timeout=5, no_delay=True, **options)

    def judge(self, what, got, expected):
        self.checked += 1
        if not fits(got, expected):
            self.wrong += 1
            print(f"{what:.200}: {shown(got)} instead of {shown(expected)}")
        if self.wrong == ENOUGH:
            sys.exit("so much is wrong that the rest is left out")

    def of(self, client, expected, method, *args, **options):
        """Calls a method of this client."""
        self.used.add(method)
        try:
            got = getattr(client, method)(*args, **options)
        except Exception as error:
            got = error
        self.judge(f"{method}{args}", got, expected)

    def __call__(self, expected, method, *args, **options):
        self.of(self.client, expected, method, *args, **options)

    def raw(self, command, expected, end="\r\n"):
        """What the client has no method for. It reads until `end`, which is to be the end of the
        whole answer and is not in what it gives back."""
        self(expected, "raw_command", command, end)

    def until(self, what, happens):
        """What comes by itself."""
        patience = time.monotonic() + PATIENCE
        happened = happens()
        while not happened and time.monotonic() < patience:
            time.sleep(0.05)
            happened = happens()
        self.judge(what, happened, True)


def storing(check):
    check(True, "set", "a", b"1")
    check(b"1", "get", "a")
    check(None, "get", "missing")
    check("default", "get", "missing", "default")
    check(True, "set", "a", b"with flags", expire=100, flags=4_294_967_295)
    check((b"with flags", 4_294_967_295), "get", "a")
    check(True, "set", "a", b"unheard", noreply=True)
    check(b"unheard", "get", "a")
    check(True, "set", "empty", b"")
    check(b"", "get", "empty")
    every_byte = bytes(range(256)) * 16
    check(True, "set", "bytes", b"\r\nEND\r\n" + every_byte)
    check(b"\r\nEND\r\n" + every_byte, "get", "bytes")
    check(True, "set", "k" * 250, b"a long key")
    check(b"a long key", "get", "k" * 250)
    large = b"v" * (1024 * 1024 - 1024)
    check(True, "set", "large", large)
    check(large, "get", "large")
    too_large = (MemcacheServerError, "object too large for cache")
    check(too_large, "set", "large", b"v" * (1024 * 1024 + 1))
    # What could not be replaced is not served any more either.
    check(None, "get", "large")
    check((MemcacheServerError, "object too large"), "add", "large", b"v" * 2_000_000)

    check(False, "add", "a", b"2")
    check(b"unheard", "get", "a")
    check(True, "add", "b", b"2", expire=DAY, flags=7)
    check((b"2", 7), "get", "b")
    check(True, "add", "c", b"3", noreply=True)
    check(True, "add", "c", b"4", noreply=True)
    check(b"3", "get", "c")

    check(True, "replace", "b", b"two")
    check(b"two", "get", "b")
    check(False, "replace", "missing", b"x")
    check(None, "get", "missing")
    check(True, "replace", "b", b"zwei", noreply=True)
    check(True, "replace", "missing", b"x", noreply=True)
    check({"b": b"zwei"}, "get_many", ["b", "missing"])

    check(True, "set", "b", b"middle", flags=3)
    # The flags of an addition are not looked at.
    check(True, "append", "b", b" end", flags=9)
    check(True, "prepend", "b", b"begin ", flags=9)
    check((b"begin middle end", 3), "get", "b")
    check(False, "append", "missing", b"x")
    check(False, "prepend", "missing", b"x")
    check(True, "append", "b", b".", noreply=True)
    check(True, "prepend", "b", b"-> ", noreply=True)
    check((b"-> begin middle end.", 3), "get", "b")

    check([], "set_many", {"m1": b"1", "m2": b"2", "m3": b"3"}, expire=DAY, flags=1)
    check([], "set_multi", {"m4": b"4", "m5": b"5"})
    check([], "set_many", {"m6": b"6", "m7": b"7"}, noreply=True)
    all_of_them = [f"m{number}" for number in range(1, 9)]
    flagged = {f"m{number}": (str(number).encode(), 1) for number in range(1, 4)}
    plain = {f"m{number}": str(number).encode() for number in range(4, 8)}
    check({**flagged, **plain}, "get_many", all_of_them)
    check({"m7": b"7", "m4": b"4"}, "get_multi", ["m7", "m8", "m4"])
    check({}, "get_many", ["m8", "m9"])

    check(None, "__setitem__", "item", b"x")
    check(b"x", "__getitem__", "item")
    check(None, "__delitem__", "item")
    check(KeyError, "__getitem__", "item")

    prefixed = check.connect(key_prefix=b"prefix:", allow_unicode_keys=True)
    check.of(prefixed, True, "set", "schlüssel", b"unicode")
    check.of(prefixed, b"unicode", "get", "schlüssel")
    check.of(prefixed, {"schlüssel": b"unicode"}, "get_many", ["schlüssel", "missing"])
    prefixed.close()


def comparing(check):
    check(True, "set", "a", b"first", flags=5)
    check((None, None), "gets", "missing")
    check(("no value", "no cas"), "gets", "missing", "no value", "no cas")
    (value, flags), seen = check.client.gets("a")
    check.judge("gets", (value, flags), (b"first", 5))
    check(((b"first", 5), seen), "gets", "a")
    check(True, "cas", "a", b"second", seen, expire=DAY, flags=6)
    check(False, "cas", "a", b"third", seen)
    check(None, "cas", "missing", b"x", seen)
    check((b"second", 6), "get", "a")
    now = check.client.gets("a")[1]
    check.judge("the next CAS unique", int(now), lambda now: now > int(seen))
    check(True, "cas", "a", b"fourth", now, noreply=True)
    check(True, "cas", "a", b"fifth", now, noreply=True)
    check(b"fourth", "get", "a")
    check(True, "set", "b", b"other")
    both = check.client.gets_many(["a", "b", "missing"])
    both = {key: value for key, (value, _) in both.items()}
    check.judge("gets_many", both, {"a": b"fourth", "b": b"other"})
    check({}, "gets_many", ["missing"])


def counting(check):
    check(True, "set", "n", b"10")
    check(11, "incr", "n", 1)
    check(111, "incr", "n", 100)
    check(100, "decr", "n", 11)
    check(0, "decr", "n", 101)
    # What has become shorter is filled up with spaces.
    check(b"0  ", "get", "n")
    check(True, "set", "n", b"18446744073709551615")
    check(0, "incr", "n", 1)
    check(None, "incr", "missing", 1)
    check(None, "decr", "missing", 1)
    check(None, "incr", "n", 5, noreply=True)
    check(None, "decr", "n", 2, noreply=True)
    check(4, "incr", "n", 1)
    check(True, "set", "word", b"word")
    not_a_number = "cannot increment or decrement non-numeric value"
    check((MemcacheClientError, not_a_number), "incr", "word", 1)
    check((MemcacheClientError, not_a_number), "decr", "word", 1)
    check((MemcacheClientError, "invalid numeric delta argument"), "incr", "n", -1)

    pool = check.connect(PooledClient, max_pool_size=8)
    check.of(pool, True, "set", "total", b"0")
    crowd = [threading.Thread(target=lambda: count_up(pool)) for _ in range(8)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    check.of(pool, b"800", "get", "total")
    pool.close()


def count_up(pool):
    for _ in range(100):
        pool.incr("total", 1)


def deleting(check):
    check(True, "set", "a", b"x")
    check(True, "delete", "a")
    check(False, "delete", "a")
    check(True, "set", "a", b"x")
    check(True, "delete", "a", noreply=True)
    check(True, "delete", "a", noreply=True)
    check(None, "get", "a")
    check([], "set_many", {"a": b"1", "b": b"2", "c": b"3", "d": b"4"})
    check(True, "delete_many", ["a", "b", "missing"])
    check(True, "delete_multi", ["c"], noreply=True)
    check({"d": b"4"}, "get_many", ["a", "b", "c", "d"])


def expiring(check):
    # A server takes up to a second off what is relative, and a loaded machine another.
    check(True, "set", "short", b"x", expire=3)
    check(b"x", "get", "short")
    check(True, "set", "past", b"x", expire=-1)
    check(None, "get", "past")
    # More than thirty days are a date.
    check(True, "set", "date", b"x", expire=int(time.time()) + 100)
    check(b"x", "get", "date")
    check(True, "set", "date", b"x", expire=30 * DAY + 1)
    check(None, "get", "date")
    check(True, "set", "touched", b"x", expire=3)
    check(True, "touch", "touched", 100)
    check(False, "touch", "missing", 100)
    check(True, "set", "quietly", b"x", expire=3)
    check(True, "touch", "quietly", 100, noreply=True)
    check(True, "touch", "missing", 100, noreply=True)
    check.until("what has expired is gone", lambda: check.client.get("short") is None)
    check({"touched": b"x", "quietly": b"x"}, "get_many", ["touched", "quietly", "short"])
    check(True, "add", "short", b"new")
    check(True, "touch", "touched", -1)
    check(None, "get", "touched")

    check.raw("gat 100 quietly", b"VALUE quietly 0 1\r\nx\r\n", "END\r\n")
    check.raw("gat 100 missing", b"", "END\r\n")
    check.raw("mg quietly t", re.compile(b"HD t(9[5-9]|100)"))
    first, second = (check.client.gets(key)[1].decode() for key in ("quietly", "short"))
    values = f"VALUE quietly 0 1 {first}\r\nx\r\nVALUE short 0 3 {second}\r\nnew\r\n"
    check.raw("gats -1 quietly short missing", values.encode(), "END\r\n")
    check({}, "get_many", ["quietly", "short"])


def flushing(check):
    check(True, "set", "a", b"x")
    check(True, "flush_all")
    check(None, "get", "a")
    check(True, "set", "a", b"x")
    check(True, "flush_all", noreply=True)
    check(None, "get", "a")
    check(True, "set", "a", b"x")
    check(True, "flush_all", 4)
    check(b"x", "get", "a")
    check.until("what is flushed later is gone", lambda: check.client.get("a") is None)
    check(True, "flush_all")


def administering(check):
    check(re.compile(rb"1\.6\.\d+\S*"), "version")
    check.raw("verbosity 1", b"OK")
    check.raw("verbosity 0", b"OK")
    check(True, "cache_memlimit", 64)
    check((MemcacheUnknownError, "MEMLIMIT_TOO_SMALL"), "cache_memlimit", 1)
    check(MemcacheUnknownCommandError, "stats", "bogus")
    check.raw("bogus", MemcacheUnknownCommandError)
    bad_line = (MemcacheClientError, "bad command line format")
    for command in "get", "get " + "k" * 251, "set a 0 0 x", "verbosity":
        check.raw(command, bad_line)
    check.raw("touch a x", (MemcacheClientError, "invalid exptime argument"))
    check.raw("set a 0 0 1\r\nxyz", (MemcacheClientError, "bad data chunk"))
    check.raw("slabs automove 0", b"OK")
    check.raw("lru tune 10 25 0.1 2.0", b"OK")

    check(True, "set", "dumped", b"x", flags=5)
    item = rb"key=dumped exp=-1 la=\d+ cas=\d+ fetch=no cls=1 size=\d+ flags=5 \n"

    def dumped():
        return crawler(check, "metadump all", "END\r\n", re.compile(b"OK\r\n" + item))

    # A real server may be at it for reasons of its own, and says so.
    check.until("lru_crawler metadump", dumped)
    check.until("lru_crawler crawl", lambda: crawler(check, "crawl all", "\r\n", b"OK"))
    check(True, "delete", "dumped")


def crawler(check, command, end, expected):
    try:
        return fits(check.client.raw_command(f"lru_crawler {command}", end), expected)
    except socket.timeout:
        return False


def statistics(check):
    check.raw("stats reset", b"RESET")
    check(True, "flush_all")
    before = check.client.stats()
    client = check.client
    client.set("a", b"1")
    client.set_many({"b": b"2", "c": b"word"})
    client.get("a")
    client.get("missing")
    client.get_many(["a", "b", "missing"])
    client.cas("a", b"5", client.gets("a")[1])
    client.cas("a", b"6", 1)
    client.cas("missing", b"6", 1)
    client.incr("a", 1)
    client.incr("missing", 1)
    client.decr("a", 1)
    client.decr("missing", 1)
    client.touch("a", 100)
    client.touch("missing", 100)
    client.delete("b")
    client.delete("b")
    client.raw_command("gat 100 a", "END\r\n")
    client.raw_command("mg a v", "\r\n5\r\n")
    client.raw_command("ms d 1\r\nx")
    client.raw_command("md d")
    client.flush_all(100)
    after = check.client.stats()
    check.used.add("stats")
    for name, more in {
        "cmd_get": 7,
        "cmd_set": 7,
        "cmd_touch": 3,
        "cmd_flush": 1,
        "get_hits": 5,
        "get_misses": 2,
        "touch_hits": 2,
        "touch_misses": 1,
        "incr_hits": 1,
        "incr_misses": 1,
        "decr_hits": 1,
        "decr_misses": 1,
        "cas_hits": 1,
        "cas_misses": 1,
        "cas_badval": 1,
        "delete_hits": 2,
        "delete_misses": 1,
        "total_items": 5,
        "curr_items": 2,
        "evictions": 0,
    }.items():
        check.judge(f"stats: {name}", after[name.encode()] - before[name.encode()], more)
    for name in "pid", "uptime", "time", "pointer_size", "curr_connections", "bytes":
        check.judge(f"stats: {name}", type(after.get(name.encode())).__name__, "int")
    check.judge("stats: version", after[b"version"], re.compile(rb"1\.6\.\d+\S*"))
    check.judge("stats: limit_maxbytes", after[b"limit_maxbytes"], 64 * 1024 * 1024)

    def has(**some):
        some = {name.replace("__", ":").encode(): value for name, value in some.items()}
        return lambda got: isinstance(got, dict) and some.items() <= got.items()

    check(has(maxbytes=64 * 1024 * 1024, evictions=b"on"), "stats", "settings")
    check(has(item_size_max=1024 * 1024, shutdown_command=b"yes"), "stats", "settings")
    check(has(items__1__number=2), "stats", "items")
    check(has(**{"1__used_chunks": 2}), "stats", "slabs")
    check(lambda got: any(name.endswith(b":addr") for name in got), "stats", "conns")
    check({b"sizes_status": b"disabled"}, "stats", "sizes")
    # What is in it depends on a thread of the server.
    check(dict, "stats", "cachedump", "1", "10")
    check((MemcacheClientError, "Illegal slab id"), "stats", "cachedump", "64", "0")
    check(True, "flush_all")


def meta(check):
    raw = check.raw
    encoded = base64.b64encode(b"a key").decode()
    raw("mn", b"MN")
    raw("mg a v", b"EN")
    raw("ms a 5 T100 F7\r\nhello", b"HD")
    check((b"hello", 7), "get", "a")
    raw("mg a", b"HD")
    raw("mg a s v f t k Oo", re.compile(b"VA 5 s5 f7 t(9[5-9]|100) ka Oo"), "\r\nhello\r\n")
    raw("mg a k Oo q\r\nmn", b"HD ka Oo\r\n", "MN\r\n")
    raw("mg missing k Oo", b"EN kmissing Oo")
    raw("mg missing q\r\nmn", b"", "MN\r\n")
    raw("mg a h l", re.compile(b"HD h1 l[0-9]"))
    cas = check.client.gets("a")[1].decode()
    raw("mg a c", f"HD c{cas}".encode())
    raw("mg a T200 t", re.compile(b"HD t(19[5-9]|200)"))
    raw("mg a Q", (MemcacheClientError, "invalid flag"))
    raw("mg", (MemcacheClientError, "bad command line format"))

    raw("ms a 1 ME\r\nx", b"NS")
    raw("ms b 1 MA\r\nx", b"NS")
    raw("ms b 1 MR k Oo\r\nx", b"NS kb Oo")
    raw("ms b 1 MA N100\r\nx", b"HD")
    raw("ms b 1 MA s\r\ny", b"HD s2")
    raw("ms b 1 MP\r\nw", b"HD")
    raw("mg b v", b"VA 3", "\r\nwxy\r\n")
    raw("ms b 1 MR q\r\nz\r\nmn", b"", "MN\r\n")
    raw("mg b v", b"VA 1", "\r\nz\r\n")
    raw(f"ms a 1 C{int(cas) + 1000}\r\nx", b"EX")
    raw("ms missing 1 C1\r\nx", b"NF")
    raw(f"ms a 5 C{cas} E123456789 c\r\nworld", b"HD c123456789")
    # An old value under a new one marks it, and one of those who read it is to renew it.
    raw("ms a 1 C5 I\r\nx", b"HD")
    raw("mg a v", b"VA 1 X W", "\r\nx\r\n")
    raw("mg a v", b"VA 1 Z X", "\r\nx\r\n")
    raw("ms a x", (MemcacheClientError, "bad command line format"))
    raw("ms a 1 MX\r\nx", (MemcacheClientError, "invalid mode"))
    raw(f"ms {encoded} 1 b k\r\nx", f"HD k{encoded} b".encode())
    raw(f"mg {encoded} b k v", f"VA 1 k{encoded} b".encode(), "\r\nx\r\n")
    raw(f"md {encoded} b", b"HD")

    raw("ms a 1\r\nx", b"HD")
    raw("md a C1", b"EX")
    raw("md a I T30", b"HD")
    raw("mg a s t v", re.compile(b"VA 1 s1 t(2[5-9]|30) X W"), "\r\nx\r\n")
    raw("md a x", b"HD")
    raw("mg a v", b"VA 0", "\r\n\r\n")
    raw("md a q\r\nmn", b"", "MN\r\n")
    raw("md a k Oo", b"NF ka Oo")
    # Quiet about what went well only.
    raw("md a q\r\nmn", b"NF\r\n", "MN\r\n")

    raw("ma n", b"NF")
    raw("ma n N100 J13 v", b"VA 2", "\r\n13\r\n")
    raw("ma n v t", re.compile(b"VA 2 t(9[5-9]|100)"), "\r\n14\r\n")
    raw("ma n D6 v", b"VA 2", "\r\n20\r\n")
    raw("ma n MD D25 v", b"VA 1", "\r\n0\r\n")
    raw("ma n M+ D5", b"HD")
    raw("ma n M- D1 q\r\nmn", b"", "MN\r\n")
    check(5, "incr", "n", 1)
    raw("ma n C1", b"EX")
    raw("ma b", (MemcacheClientError, "cannot increment or decrement non-numeric value"))
    raw("ma n Dx", (MemcacheClientError, "invalid or duplicate flag"))

    # Who misses first is to fill it, and the others are told that somebody is at it.
    raw("mg stub N30 v t", re.compile(b"VA 0 t(2[5-9]|30) W"), "\r\n\r\n")
    raw("mg stub N30 v", b"VA 0 Z", "\r\n\r\n")
    raw("ms old 1 T10\r\nx", b"HD")
    raw("mg old R30 v", b"VA 1 W", "\r\nx\r\n")
    raw("mg old R30 v", b"VA 1 Z", "\r\nx\r\n")
    raw("me old", re.compile(rb"ME old exp=\d+ la=\d+ cas=\d+ fetch=yes cls=1 size=\d+"))
    raw("me missing", b"EN")


def leaving(check):
    check(None, "quit")
    check(True, "set", "a", b"after quit")
    # Seen from the other side: the server hangs up.
    check.raw("quit", MemcacheUnexpectedCloseError)
    check(b"after quit", "get", "a")
    check(None, "shutdown")

    def gone():
        try:
            check.connect().version()
        except (ConnectionError, MemcacheUnexpectedCloseError):
            return True
        return False

    check.until("the server is gone", gone)


def methods_left_out(used):
    methods = {name for name in dir(Client) if not name.startswith("_")}
    return methods - used - WITHOUT_A_COMMAND


def main():
    check = Checks(int(sys.argv[1]))
    for part in (
        storing,
        comparing,
        counting,
        deleting,
        expiring,
        flushing,
        administering,
        statistics,
        meta,
        leaving,
    ):
        part(check)
    left_out = methods_left_out(check.used)
    if left_out:
        check.wrong += 1
        print(f"pymemcache has more methods: {', '.join(sorted(left_out))}")
    print(f"{check.checked} operations checked, {check.wrong} wrong")
    sys.exit(1 if check.wrong else 0)


if __name__ == "__main__":
    main()
