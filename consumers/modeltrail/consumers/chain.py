"""The hash chain of a partition: a hash for each place in the log, made of all that is before it.

The fold computes it for every partition, and keeps it in its tables; signed checkpoints hold its
ends. SHA-256, since processors of today compute it at 1.5 GB a second, twice as fast as BLAKE2b.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from struct import Struct
from typing import NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt

from modeltrail.eventlog import REGISTRY, REGISTRY_PARTITION, Partition

SHORT_BYTES = 8
"""Of a hash of the stream ``runs`` the tables keep this much for each event: enough to find the
place of a change. The end of each chain is kept in full."""

_OFFSET_AND_TIME = Struct(">QQ")


def chain_start(partition: Partition) -> bytes:
    """What the first event of a partition is chained to."""
    name = REGISTRY if partition == REGISTRY_PARTITION else str(partition)
    return hashlib.sha256(f"modeltrail {name} chain v1".encode()).digest()


def chain(previous: bytes, offset: int, appended_at_ms: int, payload: bytes) -> bytes:
    """The next hash: SHA-256 of the previous one, offset and time (8 bytes each), and payload."""
    hash = hashlib.sha256(previous + _OFFSET_AND_TIME.pack(offset, appended_at_ms))
    hash.update(payload)
    return hash.digest()


def shortened(hashes: Sequence[bytes]) -> npt.NDArray[np.int64]:
    """The first bytes of each hash, as a column of 64-bit integers holds them."""
    full = np.frombuffer(b"".join(hashes), ">i8").reshape(len(hashes), 4)
    return full[:, 0].astype(np.int64)


class Head(NamedTuple):
    """The end of a chain."""

    offset: int
    """Of its last event."""
    hash: bytes


class Link(NamedTuple):
    """What is kept of one event's place in the chain."""

    offset: int
    appended_at_ms: int
    hash: bytes
    """In full, or its first ``SHORT_BYTES`` bytes."""


def heads(con: duckdb.DuckDBPyConnection) -> dict[Partition, Head]:
    """The end of each chain as folded, for every partition that has events."""
    return {
        Partition(stream, partition): Head(next_offset - 1, head)
        for stream, partition, next_offset, head in con.execute(
            "SELECT stream, partition, next_offset, head FROM fold.positions WHERE next_offset > 0"
        ).fetchall()
    }


_LINKS: dict[bool, str] = {
    True: """SELECT "offset", appended_at_ms, hash FROM fold.requests
        WHERE "offset" BETWEEN $first AND $last ORDER BY "offset" LIMIT $limit""",
    False: """SELECT "offset", appended_at_ms, hash FROM fold.links
        WHERE "offset" BETWEEN $first AND $last AND partition = $partition
        ORDER BY "offset" LIMIT $limit""",
}


def links(
    con: duckdb.DuckDBPyConnection, partition: Partition, first: int, last: int, limit: int
) -> list[Link]:
    """Links of a partition by offset, from ``first`` to ``last``, ``limit`` at most."""
    registry = partition == REGISTRY_PARTITION
    given = {"first": first, "last": last, "limit": limit}
    if not registry:
        given["partition"] = partition.partition
    rows = con.execute(_LINKS[registry], given).fetchall()
    if registry:
        return [Link(*row) for row in rows]
    return [
        Link(offset, ms, hash.to_bytes(SHORT_BYTES, "big", signed=True))
        for offset, ms, hash in rows
    ]


Page = Callable[[Partition, int, int], list[Link]]
"""Links of a partition from one offset to another, as many as come at once; empty at the end."""


class FoldedChains:
    """What a fold knows of the chains, fetched page by page, as far as it had come at first."""

    def __init__(self, heads: Mapping[Partition, Head], page: Page) -> None:
        """Take the heads; the pages are fetched when they are needed."""
        self.heads = heads
        """The end of each chain, for every partition that has events."""
        self._page = page

    def links(self, partition: Partition) -> Iterator[Link]:
        """The links of a partition, by offset, up to its head."""
        head = self.heads.get(partition)
        first = 0
        while head is not None and first <= head.offset:
            page = self._page(partition, first, head.offset)
            if not page:
                return
            yield from page
            first = page[-1].offset + 1


_PAGE = 100_000


def of_tables(con: duckdb.DuckDBPyConnection) -> FoldedChains:
    """What a fold's tables know of the chains, as they are now."""
    return FoldedChains(heads(con), lambda p, first, last: links(con, p, first, last, _PAGE))
