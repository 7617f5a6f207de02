"""Runs that log straight to a Kafka broker."""

from __future__ import annotations

import os
from typing import Any

from modeltrail.eventlog import RUNS, open_log
from modeltrail.producers import start_run, sync
from modeltrail.schemas import Codec
from open_runs import end_open_runs


def test_a_run_and_its_artifacts(home: Any, kafka: str, monkeypatch: Any, caplog: Any) -> None:
    url = f"kafka://{kafka}/producers-{os.urandom(4).hex()}"
    (home.folder / "model.bin").write_bytes(b"weights")
    with start_run(url=url) as run:
        for i in range(1000):
            run.log({"m": float(i)}, i)
        run.log_artifact("model.bin")
        assert not run.finish(timeout_s=40), "artifacts have no place to go to yet"
    assert caplog.text.count("MODELTRAIL_ARTIFACTS") == 1
    end_open_runs()
    monkeypatch.setenv("MODELTRAIL_ARTIFACTS", str(home.folder / "store"))
    done = sync()
    assert [(r.artifacts, r.left_bytes, r.error) for r in done] == [(1, 0, None)]
    assert (home.folder / "store" / run.run_id / "model.bin").read_bytes() == b"weights"

    log = open_log(url)
    reader, codec = log.reader({}), Codec(lambda: log.schemas().values())
    types: list[str] = []
    while "ArtifactLogged" not in types:
        for record in reader.poll(10):
            if record.stream == RUNS:
                types.append(codec.decode(record.payload).type)
    reader.close()
    log.close()
    metrics = [t for t in types if t == "MetricsLogged"]
    assert types == ["RunStarted", *metrics, "RunEnded", "ArtifactLogged"]
