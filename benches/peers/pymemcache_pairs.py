"""Pairs with pymemcache: pymemcache_pairs.py PORT KEY

Reads how many pairs to do, a number a line, and answers each with a line of how long each pair
took, in nanoseconds. The classic commands know no deletion that compares, so it looks before.
"""

import os
import sys
import time

from pymemcache.client.base import Client


def main():
    port, key = int(sys.argv[1]), sys.argv[2]
    client = Client(("127.0.0.1", port), no_delay=True, timeout=5)
    number = 0
    for line in sys.stdin:
        took = []
        for _ in range(int(line)):
            number += 1
            token = b"%016x" % number
            began = time.perf_counter_ns()
            held = client.add(key, token, expire=10, noreply=False)
            mine = held and client.get(key) == token
            released = mine and client.delete(key, noreply=False)
            took.append(time.perf_counter_ns() - began)
            if not released:
                sys.exit("a lock was not to be had, or not to be given back")
        print(*took, flush=True)


if __name__ == "__main__":
    main()
