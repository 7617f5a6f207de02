"""What a server does without."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from api_server import Server
from writers import RunWriter


def test_a_server_does_without_pandas(tmp_path: Path) -> None:
    # Arrow imports it, where it is installed, for each list that it is given: 2 s of CPU time.
    assert find_spec("pandas") is not None, "pandas is missing, so this shows nothing"
    server = Server(tmp_path / "data")
    try:
        server.ready()
        writer = RunWriter("a" * 32)
        started = writer.started(experiment_id="0", params={f"p{i}": "x" for i in range(20)})
        server.ingest(started.payload)
        found = server.ask("/api/v1/sql", {"statement": "SELECT count(*), upper('x') FROM params"})
        assert found["rows"] == [[20, "X"]]
        mapped = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "/pyarrow/" in mapped
        assert "/pandas/" not in mapped
    finally:
        server.stop()
