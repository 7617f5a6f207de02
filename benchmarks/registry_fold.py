"""How fast the registry is folded, verified, and asked: `python benchmarks/registry_fold.py`."""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from modeltrail.consumers.audit import verify
from modeltrail.consumers.chain import of_tables
from modeltrail.consumers.checkpoints import CHECKPOINTS_FILE, Checkpoints
from modeltrail.consumers.database import Database
from modeltrail.consumers.store import Limits
from modeltrail.eventlog import NewEvent
from modeltrail.eventlog.memory import MemoryLog
from modeltrail.schemas import Codec, encode, envelope, uuid_from_cause


def requests(count: int) -> list[NewEvent]:
    """A registry at work: half a thousand models, their versions promoted now and then."""
    choose = random.Random(7)
    producer = uuid_from_cause("benchmark")
    versions: dict[str, int] = {}
    events = []
    for sequence in range(count):
        model = f"model-{choose.randrange(500)}"
        newest = versions.get(model, 0)
        kind = choose.random()
        if kind < 0.3 or not newest:
            type = "CreateModelVersion"
            versions[model] = newest + 1
            body = {
                "model": model,
                "source": f"s3://models/{model}/{newest}",
                "tags": {"training_commit": f"{sequence:040x}", "training_data": "v12"},
                "create_model": True,
            }
        elif kind < 0.55:
            type = "SetRegisteredModelAlias"
            evidence = [{"kind": "metric", "key": "val_auc", "value": "0.93", "run_id": "r1"}]
            body = {"model": model, "alias": "champion", "version": newest, "evidence": evidence}
        elif kind < 0.75:
            type = "TransitionModelVersionStage"
            body = {"model": model, "version": newest, "stage": "Production"}
            body["archive_existing_versions"] = True
        else:
            type = "ChangeModelVersionTags"
            body = {"model": model, "version": newest, "tags": {"approved_by": f"user-{sequence}"}}
        header = envelope(
            producer_id=producer,
            sequence=sequence,
            actor="benchmark",
            client="benchmark/1",
            reason="because it is better",
        )
        events.append(NewEvent("registry", "", encode(type, {"envelope": header, **body})))
    return events


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=10_000, help="events a transaction")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    log = MemoryLog()
    log.append(requests(arguments.events))
    reader = log.reader({})
    records = reader.poll(0, 1 << 40)
    gc.collect()
    gc.freeze()  # a real log is not in this process's memory
    folded, verified, asked, loaded = [], [], [], []
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "projections.duckdb"
            database = Database(path, Codec(), Limits())
            start = time.perf_counter()
            for at in range(0, len(records), arguments.batch):
                database.fold(records[at : at + arguments.batch])
            folded.append(len(records) / (time.perf_counter() - start))
            con = database.connection
            Checkpoints(Path(folder)).write(con)
            start = time.perf_counter()
            verdict = verify(log, of_tables(con), checkpoints=Path(folder) / CHECKPOINTS_FILE)
            verified.append(len(records) / (time.perf_counter() - start))
            assert verdict.ok, verdict.findings
            middle = len(records) // 2
            start = time.perf_counter()
            con.execute(f"FROM aliases_at({middle}) WHERE model = 'model-7'").fetchall()
            asked.append((time.perf_counter() - start) * 1000)
            database.close()
            start = time.perf_counter()
            Database(path, Codec(), Limits()).close()
            loaded.append((time.perf_counter() - start) * 1000)
    gc.unfreeze()
    out = sys.stdout.write
    out(f"{len(records):,} registry events in batches of {arguments.batch:,}, medians\n")
    out(f"fold    {statistics.median(folded):>10,.0f} events/s\n")
    out(f"verify  {statistics.median(verified):>10,.0f} events/s\n")
    out(f"as of   {statistics.median(asked):>10.1f} ms for the aliases of a model\n")
    out(f"open    {statistics.median(loaded):>10.1f} ms with all of it stored\n")


if __name__ == "__main__":
    main()
