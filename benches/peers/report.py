"""Tables and a plot from what memlatch-peers has measured: report.py RESULTS DOCUMENT PLOT

Replaces what stands in DOCUMENT between the markers, and writes PLOT anew. scripts/bench runs it.
"""

import json
import re
import statistics
import sys
from pathlib import Path

BEGIN, END = "<!-- scripts/bench writes from here -->", "<!-- to here -->"
FLOOR = "socket"

PAIRS = {
    "socket": "bare socket, the bytes of memlatch",
    "tokio-socket": "bare tokio socket, the bytes of memlatch",
    "socket-lean": "bare socket, the bytes of the lean mode",
    "socket-ms-md": "bare socket, `ms` and `md`",
    "memlatch-blocking": "**memlatch, blocking**",
    "memlatch-async": "**memlatch, async**",
    "memlatch-blocking-lean": "**memlatch, blocking, lean**",
    "memlatch-async-lean": "**memlatch, async, lean**",
    "async-memcached": "{async-memcached}, `ms` and `md`",
    "memcache-exp": "{memcache} `exp`, `ms` and `md`",
    "memcache-exp-async": "{memcache} `exp` async, `ms` and `md`",
    "memcache": "{memcache} classic, `add` `get` `delete`",
    "rslock": "{rslock} on Redis",
    "pymemcache": "{pymemcache}, `add` `get` `delete`",
}

CROWDS = {
    "epoll-64": "bare epoll loop, the bytes of memlatch, one connection",
    "epoll-lean-64": "bare epoll loop, the bytes of the lean mode, one connection",
    "memlatch-64": "**memlatch, one connection**",
    "memlatch-lean-64": "**memlatch, lean, one connection**",
    "async-memcached-64": "{async-memcached}, 64 connections",
    "rslock-64": "{rslock} on Redis, one connection",
    "memlatch-256": "**memlatch, 256 tasks**",
    "memlatch-256-two-workers": "**memlatch, 256 tasks**, two workers",
    "memlatch-lean-256": "**memlatch, lean, 256 tasks**",
    "memlatch-lean-256-two-workers": "**memlatch, lean, 256 tasks**, two workers",
}


class Results:
    def __init__(self, lines):
        self.rows = {}
        for line in lines:
            row = json.loads(line)
            self.rows[row["what"], row.get("core"), row.get("name")] = row

    def get(self, what, name=None, core=None):
        return self.rows.get((what, core, name))

    def series(self, name, core):
        """What was measured round by round: of a pair on `core`, or of a crowd."""
        if core == "crowd":
            row = self.get("crowd", name)
            return row and row["pairs_per_second"]
        row = self.get("pair", name, core)
        return row and row["p50"]

    def ratio(self, name, base, core):
        """How many times as much as the base: the quartiles of the ratios within each round."""
        over, under = self.series(name, core), self.series(base, core)
        if not over or not under:
            return None
        return quartiles([a / b for a, b in zip(over, under)])


def quartiles(values):
    if len(values) < 2:
        return values * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def with_spread(found):
    low, middle, high = found
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def versions(package):
    """The versions of the peers, from the lock file and from what is installed with pip."""
    lock = (package / "Cargo.lock").read_text()
    found = dict(re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', lock))
    requirements = package.parents[1] / "tests/clients/requirements.txt"
    found["pymemcache"] = re.search(r"^pymemcache==(\S+)", requirements.read_text(), re.M)[1]
    return {name: f"{name} {version}" for name, version in found.items()}


def label(text, names, plain=False):
    text = re.sub(r"\{([^}]+)\}", lambda match: names[match[1]], text)
    return re.sub(r"[`*]", "", text) if plain else text


# --- goals --------------------------------------------------------------------------

# What, its limit, whether at most or at least, and how it is found: a count of this name, or the
# ratio of two names on this core.
GOALS = [
    ("allocations of a pair, blocking", "<=", 0, ("allocations", "memlatch-blocking", "count")),
    ("allocations of a pair, async", "<=", 0, ("allocations", "memlatch-async", "count")),
    ("allocations of a pair, blocking, lean", "<=", 0, ("allocations", "memlatch-blocking-lean", "count")),
    ("allocations of a pair, async, lean", "<=", 0, ("allocations", "memlatch-async-lean", "count")),
    ("allocations of a further look at a held lock, blocking", "<=", 0, ("waiter", "memlatch-blocking", "count")),
    ("allocations of a further look at a held lock, async", "<=", 0, ("waiter", "memlatch-async", "count")),
    ("the same, blocking, lean", "<=", 0, ("waiter", "memlatch-blocking-lean", "count")),
    ("the same, async, lean", "<=", 0, ("waiter", "memlatch-async-lean", "count")),
    ("round trips of a pair, blocking", "<=", 2, ("wire", "memlatch-blocking", "round_trips")),
    ("round trips of a pair, async", "<=", 2, ("wire", "memlatch-async", "round_trips")),
    ("round trips of a pair, async, lean", "<=", 2, ("wire", "memlatch-async-lean", "round_trips")),
    ("system calls of a pair, blocking", "<=", 4, ("syscalls", "memlatch-blocking", "all")),
    ("system calls of a pair, blocking, lean", "<=", 4, ("syscalls", "memlatch-blocking-lean", "all")),
    ("system calls of a pair, async", "<=", 6, ("syscalls", "memlatch-async", "all")),
    ("system calls of a pair, async, lean", "<=", 6, ("syscalls", "memlatch-async-lean", "all")),
    ("blocking / bare socket, same core", "<=", 1.03, ("same", "memlatch-blocking", "socket")),
    ("blocking, lean / bare socket with its bytes, same core", "<=", 1.03, ("same", "memlatch-blocking-lean", "socket-lean")),
    ("async / bare socket, same core", "<=", 1.15, ("same", "memlatch-async", "socket")),
    ("async / bare socket, cross core", "<=", 1.06, ("cross", "memlatch-async", "socket")),
    ("async, lean / bare socket with its bytes, same core", "<=", 1.15, ("same", "memlatch-async-lean", "socket-lean")),
    ("async, lean / bare socket with its bytes, cross core", "<=", 1.06, ("cross", "memlatch-async-lean", "socket-lean")),
    ("async, lean / {async-memcached}, same core", "<=", 0.98, ("same", "memlatch-async-lean", "async-memcached")),
    ("async, lean / {rslock}, same core", "<=", 0.66, ("same", "memlatch-async-lean", "rslock")),
    ("async, lean / {memcache} classic, same core", "<=", 0.22, ("same", "memlatch-async-lean", "memcache")),
    ("64 tasks, lean: pairs/s / {rslock}", ">=", 3, ("crowd", "memlatch-lean-64", "rslock-64")),
    ("64 tasks, lean: pairs/s / {async-memcached} on 64 connections", ">=", 4, ("crowd", "memlatch-lean-64", "async-memcached-64")),
    ("64 tasks, lean: pairs/s / bare epoll loop", ">=", 0.75, ("crowd", "memlatch-lean-64", "epoll-lean-64")),
    ("64 tasks: pairs/s / bare epoll loop", ">=", 0.75, ("crowd", "memlatch-64", "epoll-64")),
    ("256 tasks: two workers / one thread", ">=", 0.7, ("crowd", "memlatch-256-two-workers", "memlatch-256")),
    ("256 tasks, lean: two workers / one thread", ">=", 0.7, ("crowd", "memlatch-lean-256-two-workers", "memlatch-lean-256")),
    ("handing on, 64 waiters / a pair", "<=", 0.6, ("handoff", "handover", "ratio")),
    ("releasing to the next of 64 waiters, lean / a pair", "<=", 1.2, ("handoff", "release-and-acquire", "ratio")),
    ("tries for each time a lock is handed off", "<=", 1.1, ("handoff", "handover", "tries")),
    ("the same, released to the next, lean", "<=", 1.1, ("handoff", "release-and-acquire", "tries")),
    ("from one process to another, median, ms", "<=", 2.5, ("between", "memlatch", "p50_ms")),
    ("tries for each time", "<=", 2.5, ("between", "memlatch", "tries")),
    ("a killed holder is followed, lease of 200 ms, median, ms", "<=", 280, ("failover", "lease-200", "p50_ms")),
    ("the same, 99th percentile, ms", "<=", 500, ("failover", "lease-200", "p99_ms")),
    ("the same, lease of 10 s, longest, ms", "<=", 14000, ("failover", "lease-10000", "max_ms")),
    ("1000 waiters for 1000 locks: requests per second", "<=", 2000, ("waiters", "memlatch", "requests_per_second")),
    ("the same: of a core", "<=", 0.25, ("waiters", "memlatch", "of_a_core")),
]


def exact(number):
    """A count: whole where it is whole but for what happens now and then."""
    # A difference of two runs, in the first of which more may have happened besides.
    number = max(number, 0)
    return f"{number:.0f}" if abs(number - round(number)) < 0.05 else f"{number:.2f}"


def goals(results, names):
    yield "| what | reached | goal | |"
    yield "|---|---:|---:|---|"
    left_out = []
    for what, sign, limit, (kind, name, other) in GOALS:
        what = label(what, names)
        if kind in ("same", "cross", "crowd"):
            found = results.ratio(name, other, kind)
            reached, shown = found and found[1], found and with_spread(found)
            # What the table shows decides.
            reached = found and round(reached, 2)
        else:
            row = results.get(kind, name)
            reached = row and row[other]
            shown = row and exact(reached)
            reached = row and float(shown)
        if reached is None:
            left_out.append(what)
            continue
        met = reached <= limit if sign == "<=" else reached >= limit
        mark = "≤" if sign == "<=" else "≥"
        yield f"| {what} | {shown} | {mark} {limit} | {'met' if met else '**missed**'} |"
    if left_out:
        yield ""
        yield "Not measured: " + "; ".join(left_out) + "."


# --- tables -------------------------------------------------------------------------


def count_of(results, what, name, key):
    row = results.get(what, name)
    return exact(row[key]) if row else "–"


def pairs(results, names):
    yield "| | same core, µs | × bare socket | cross core, µs | × bare socket | system calls | allocations | round trips | bytes |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    for name, text in PAIRS.items():
        cells = []
        for core in ("same", "cross"):
            series, ratio = results.series(name, core), results.ratio(name, FLOOR, core)
            cells.append(f"{statistics.median(series) / 1000:.1f}" if series else "–")
            cells.append("1" if name == FLOOR and series else with_spread(ratio) if ratio else "–")
        if set(cells) == {"–"}:
            continue
        cells.append(count_of(results, "syscalls", name, "all"))
        cells.append(count_of(results, "allocations", name, "count"))
        cells.append(count_of(results, "wire", name, "round_trips"))
        wire = results.get("wire", name)
        cells.append(f"{wire['bytes_up'] + wire['bytes_down']:.0f}" if wire else "–")
        yield f"| {label(text, names)} | " + " | ".join(cells) + " |"


def crowds(results, names):
    base = "rslock-64" if results.get("crowd", "rslock-64") else "epoll-64"
    yield f"| | pairs/s | × {label(CROWDS[base], names).split(',')[0]} |"
    yield "|---|---:|---:|"
    for name, text in CROWDS.items():
        series = results.series(name, "crowd")
        if series:
            ratio = "1" if name == base else with_spread(results.ratio(name, base, "crowd"))
            rate = round(statistics.median(series), -3)
            yield f"| {label(text, names)} | {rate:,.0f} | {ratio} |"


def waiting(results):
    """Sentences, for what is measured is of many kinds."""
    for name, text in (
        ("handover", "handed off by its holder"),
        ("release-and-acquire", "released by its holder, and acquired by the next one (lean)"),
    ):
        if row := results.get("handoff", name):
            low, middle, high = quartiles(row["p50"])
            yield (
                f"- In a process with 64 tasks that want one lock, {text}: median "
                f"{middle / 1000:.1f} µs ({low / 1000:.1f}–{high / 1000:.1f}), where a pair on a lock "
                f"without contention takes {statistics.median(row['pair']) / 1000:.1f} µs."
            )
    if row := results.get("between", "memlatch"):
        yield (
            f"- Between two processes, with 2 to 5 ms of work under the lock and between: median "
            f"{row['p50_ms']:.1f} ms from the release to the grant, 99th percentile {row['p99_ms']:.1f} ms, "
            f"over {row['count']} times."
        )
    for name, text in (("lease-200", "200 ms"), ("lease-10000", "10 s")):
        if row := results.get("failover", name):
            yield (
                f"- A holder with a lease of {text} is killed, and another process waits: it has the lock after "
                f"{row['p50_ms']:,.0f} ms (median), {row['p99_ms']:,.0f} ms (99th percentile), {row['max_ms']:,.0f} ms "
                f"at most, over {row['count']} kills."
            )
    if row := results.get("waiters", "memlatch"):
        yield (
            f"- 1000 tasks that wait for 1000 locks of another process (leases of 10 s): "
            f"{row['requests_per_second']:,.0f} requests a second, {row['of_a_core'] * 100:.0f} % of a core."
        )


def environment(results):
    found = results.get("environment") or {}
    servers = f"memcached {found['memcached']}"
    if found.get("redis"):
        servers += f" and Redis {found['redis']}"
    rounds = [
        f"{len(series)} rounds {where}"
        for name, core, where in (
            (FLOOR, "same", "on one core with the server"),
            (FLOOR, "cross", "on another one"),
            ("epoll-64", "crowd", "of many tasks"),
        )
        if (series := results.series(name, core))
    ]
    return (
        f"{found['cpu']}, {found['cores']} cores, {found['system']}, rustc {found['rustc']}, "
        f"{servers}, load {found['load']} at the start; {', '.join(rounds)}."
    )


# --- plot ---------------------------------------------------------------------------

OURS, SOCKETS, OTHERS = "#0b7285", "#868e96", "#c9a36b"


def color(name):
    if name.startswith("memlatch"):
        return OURS
    return SOCKETS if "socket" in name or name.startswith("epoll") else OTHERS


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;")


def panel(title, bars, top, most, show):
    """Bars from left to right: (name, text, low, middle, high)."""
    left, width, step = 330, 420, 24
    yield f'<text x="20" y="{top}" class="title">{escape(title)}</text>'
    y = top + 14
    for name, text, low, middle, high in bars:
        # What is longer than the panel ends in an arrow.
        cut = middle > most
        x = [left + width * min(value, most) / most for value in (low, middle, high)]
        weight = ' font-weight="bold"' if name.startswith("memlatch") else ""
        yield f'<text x="{left - 10}" y="{y + 14}" text-anchor="end"{weight}>{escape(text)}</text>'
        yield f'<rect x="{left}" y="{y + 3}" width="{x[1] - left:.1f}" height="15" fill="{color(name)}"/>'
        if cut:
            yield f'<path d="M{left + width} {y + 3} l9 7.5 l-9 7.5 z" fill="{color(name)}"/>'
        else:
            yield f'<path d="M{x[0]:.1f} {y + 10.5} H{x[2]:.1f}" stroke="#212529" stroke-width="1.5"/>'
        at = (left + width + 9 if cut else max(x)) + 7
        yield f'<text x="{at:.1f}" y="{y + 14}">{show(middle)}</text>'
        y += step
    yield f'<path d="M{left} {top + 14} V{y}" stroke="#212529"/>'


def plot(results, names):
    one = []
    for name, text in PAIRS.items():
        found = results.ratio(name, FLOOR, "same") or results.ratio(name, FLOOR, "cross")
        if found:
            one.append((name, label(text, names, plain=True), *found))
    one.sort(key=lambda bar: bar[3])
    many = []
    for name, text in CROWDS.items():
        series = results.series(name, "crowd")
        if series and name.endswith("-64"):
            text = label(text, names, plain=True).replace("the bytes of ", "").replace(" connections", " conn.")
            many.append((name, text.replace(", one connection", ""), *quartiles(series)))
    many.sort(key=lambda bar: -bar[3])
    # The slowest are not to flatten the rest.
    most = min(max((bar[3] for bar in one), default=1), 2.5)
    second = 30 + 24 * len(one) + 60
    height = second + 24 * len(many) + 40
    body = [
        *panel("Acquire and release, same core: time, × bare socket (shorter is better)", one, 30, most,
               lambda value: f"{value:.2f}"),
        *panel("64 tasks: pairs a second (longer is better)", many, second,
               max((bar[4] for bar in many), default=1), lambda value: f"{value / 1000:,.0f} k"),
    ]
    style = "text{font:13px sans-serif;fill:#212529}.title{font-size:15px;font-weight:bold}"
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 840 {height}" width="840" height="{height}">',
        f"<style>{style}</style>",
        f'<rect width="840" height="{height}" fill="#ffffff"/>',
        *body,
        "</svg>",
        "",
    ])


# --- all of it ----------------------------------------------------------------------


def main():
    lines, document, picture = (Path(argument) for argument in sys.argv[1:4])
    results = Results(lines.read_text().splitlines())
    names = versions(Path(__file__).resolve().parent)
    text = document.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{document}: the markers are missing")
    written = [
        "",
        f"![Acquire and release in comparison, and 64 tasks at once]({picture.name})",
        "",
        environment(results),
        "",
        "### Goals",
        "",
        *goals(results, names),
        "",
        "### One lock without contention",
        "",
        *pairs(results, names),
        "",
        "### Many tasks, each with a lock of its own",
        "",
        *crowds(results, names),
        "",
        "### Locks that change hands",
        "",
        *waiting(results),
        "",
    ]
    document.write_text(before + BEGIN + "\n".join(written) + "\n" + END + after)
    picture.write_text(plot(results, names))


if __name__ == "__main__":
    main()
