"""What the hash chain costs the fold, and how fast it is verified: `python benchmarks/chain.py`.

Folds the same events with the chain and without it, in turns, and compares the processor time.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from modeltrail.consumers.audit import verify
from modeltrail.consumers.chain import of_tables
from modeltrail.consumers.database import Database
from modeltrail.consumers.projections.runs import RunsProjection
from modeltrail.consumers.store import Limits
from modeltrail.eventlog import LogRecord, NewEvent
from modeltrail.eventlog.memory import MemoryLog
from modeltrail.schemas import Codec, encode, envelope, pack, uuid_from_cause

RUNS = 50


def events(count: int, points: int) -> list[NewEvent]:
    """Batches of points of some runs."""
    choose = random.Random(7)
    made = []
    for n in range(count):
        run = f"{n % RUNS:032x}"
        steps = range(n * points, (n + 1) * points)
        columns = pack([0] * points, steps, steps, [choose.random() for _ in steps])
        header = envelope(
            producer_id=uuid_from_cause(run), sequence=n // RUNS, actor="benchmark", client="b/1"
        )
        body = {"envelope": header, "run_id": run, "series": [{"key": "loss"}], **columns}
        made.append(NewEvent("runs", run, encode("MetricsLogged", body)))
    return made


@contextmanager
def unchained() -> Iterator[None]:
    """Leave the chain out."""
    with (
        patch("modeltrail.consumers.database.chain", lambda previous, *rest: previous),
        patch.object(RunsProjection, "record_hash", lambda self, record, hash: None),
    ):
        yield


def fold(records: list[LogRecord], batch: int) -> tuple[Database, float]:
    """Fold in batches; the database, and the processor's seconds."""
    database = Database(None, Codec(), Limits())
    gc.collect()
    began = time.process_time()
    for at in range(0, len(records), batch):
        database.fold(records[at : at + batch])
    return database, time.process_time() - began


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for points, count, batch in ((1000, 4_000, 400), (100, 10_000, 1_000), (1, 20_000, 1_000)):
        log = MemoryLog()
        log.append(events(count, points))
        records = log.reader({}).poll(0, 1 << 40)
        size = sum(len(record.payload) for record in records)
        ratios, speeds, without_s = [], [], []
        for _ in range(arguments.rounds):
            with unchained():
                plain, without = fold(records, batch)
            plain.close()
            chained, with_chain = fold(records, batch)
            ratios.append(with_chain / without)
            without_s.append(without)
            began = time.process_time()
            assert verify(log, of_tables(chained.connection)).ok
            speeds.append(count / (time.process_time() - began))
            chained.close()
        cost, verified = statistics.median(ratios) - 1, statistics.median(speeds)
        sys.stdout.write(
            f"{count:,} events of {points:,} points ({size / count:,.0f} bytes), {batch} a batch: "
            f"chained {100 * cost:+.1f} % ({', '.join(f'{100 * (r - 1):+.1f}' for r in ratios)}) "
            f"of {statistics.median(without_s):.2f} s of the fold; "
            f"verify {verified:,.0f} events/s, {verified * size / count / 1e6:,.0f} MB/s\n"
        )


if __name__ == "__main__":
    main()
