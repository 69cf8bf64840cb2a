"""How often somebody may try to sign in: guessing is slow, and nobody is kept out for long.

Counted are tries at a name from an address, at all names from an address, and at a name from all
addresses. Each count begins anew a minute after its first try; what was refused does not count, nor
what succeeded. Whoever has signed in from an address before is not kept out from there by what
strangers try elsewhere.

References
----------
NIST SP 800-63B-4 3.2.2; OWASP, "Blocking Brute Force Attacks", device cookies
"""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from worker.access.names import LONGEST, normalised

NAME_AND_ADDRESS = RateLimitItemPerMinute(5)
ADDRESS = RateLimitItemPerMinute(20)
NAME = RateLimitItemPerMinute(100)
_NEWS = RateLimitItemPerMinute(1)
# Pairs of names and addresses that are remembered as known.
_MOST_KNOWN = 10_000

Key = tuple[RateLimitItem, tuple[str, ...]]


class Attempts:
    """Counts the tries of one process; safe to share between threads.

    Parameters
    ----------
    name_and_address, address, name
        How many tries there may be in which time.
    """

    def __init__(
        self,
        name_and_address: RateLimitItem = NAME_AND_ADDRESS,
        address: RateLimitItem = ADDRESS,
        name: RateLimitItem = NAME,
    ) -> None:
        self._limits = (name_and_address, address, name)
        self._storage = MemoryStorage()
        self._limiter = FixedWindowRateLimiter(self._storage)
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._lock = threading.Lock()

    def may_try(self, name: str, address: str) -> bool:
        """Tell whether somebody may try a password now; if so, it counts as a try.

        Parameters
        ----------
        name
            As it was typed; whether there is such a user makes no difference.
        address
            Of the browser.
        """
        pair = _pair(name, address)
        with self._lock:
            keys = self._keys(pair)
            if not all(self._limiter.test(limit, *words) for limit, words in keys):
                return False
            for limit, words in keys:
                self._limiter.hit(limit, *words)
        return True

    def succeeded(self, name: str, address: str) -> None:
        """Remember that somebody has signed in; that they tried is taken back."""
        pair = _pair(name, address)
        with self._lock:
            for limit, words in self._keys(pair):
                key = limit.key_for(*words)
                if self._storage.get(key):
                    self._storage.decr(key)
            self._known[pair] = None
            self._known.move_to_end(pair)
            while len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)

    def is_news(self, address: str) -> bool:
        """Tell whether nobody was refused from an address in this minute yet.

        What is written down of each would fill the disk.
        """
        with self._lock:
            return self._limiter.hit(_NEWS, "refused", _network(address))

    def _keys(self, pair: tuple[str, str]) -> list[Key]:
        """Name the counts of a try."""
        of_pair, of_address, of_name = self._limits
        name, address = pair
        keys: list[Key] = [(of_pair, ("pair", *pair)), (of_address, ("address", address))]
        return keys if pair in self._known else [*keys, (of_name, ("name", name))]


def _pair(name: str, address: str) -> tuple[str, str]:
    # What is longer than any name is counted as one.
    return normalised(name[: 4 * LONGEST])[: LONGEST + 1], _network(address)


def _network(address: str) -> str:
    """Give what counts as one address: of IPv6 the /64, which one subscriber has to themselves."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))
