"""A registry event, read straight from the embedded log's file by another Avro implementation."""

import sqlite3
from io import BytesIO
from pathlib import Path
from typing import Any

import avro.io
import avro.schema

from modeltrail.eventlog import REGISTRY, NewEvent, open_log
from modeltrail.schemas import encode, envelope, writer_schemas


def test_the_avro_package_reads_a_registry_event_from_the_log(tmp_path: Path) -> None:
    who = envelope(
        producer_id=b"p" * 16, sequence=0, actor="ada", client="test", reason="beats 🚀 the last"
    )
    event = {"envelope": who, "model": "digits", "alias": "champion", "version": 7}
    log = open_log(str(tmp_path))
    log.add_schemas(writer_schemas())
    log.append([NewEvent(REGISTRY, "", encode("SetRegisteredModelAlias", event))])
    log.close()

    # From here on: SQLite, the avro package, and what the file says about itself.
    with sqlite3.connect(f"file:{tmp_path / 'log.sqlite'}?mode=ro", uri=True) as file:
        ((payload,),) = file.execute("SELECT payload FROM registry").fetchall()
        assert payload[:2] == b"\xc3\x01"
        ((text,),) = file.execute(
            "SELECT json FROM schemas WHERE fingerprint = ?", [payload[2:10]]
        ).fetchall()
    file.close()
    schema: Any = avro.schema.parse(text)
    read: Any = avro.io.DatumReader(schema).read(avro.io.BinaryDecoder(BytesIO(payload[10:])))
    assert schema.fullname == "modeltrail.registry.SetRegisteredModelAlias"
    assert (read["model"], read["alias"], read["version"]) == ("digits", "champion", 7)
    assert read["envelope"]["actor"] == "ada"
    assert read["envelope"]["reason"] == "beats 🚀 the last"
