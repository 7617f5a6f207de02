"""What an address names, for the log, the client and the producers alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from modeltrail.api.client import folder_of
from modeltrail.api.errors import ClientError
from modeltrail.eventlog import LogMisconfigured, open_log
from modeltrail.eventlog.address import absolute_url, kind_of


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("data", "folder"),
        ("./a:b/c", "folder"),
        (r"C:\data", "folder"),
        ("FILE:///data", "folder"),
        ("Kafka://broker:9092/prefix", "kafka"),
        ("memory:", "memory"),
        ("https://host", "server"),
        ("s3://bucket", None),
    ],
)
def test_the_scheme_tells_what_an_address_names(address: str, kind: str | None) -> None:
    assert kind_of(address) == kind


def test_a_file_url_names_one_folder_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my data"
    for url in (f"{folder.as_uri()}", "file:my%20data"):
        open_log(url).close()
        assert (folder / "log.sqlite").exists()
        assert folder_of(url).path.resolve() == folder
        assert absolute_url(url) == str(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["my data"]


def test_a_file_url_of_another_machine_is_refused_everywhere() -> None:
    url = "file://elsewhere/data"
    with pytest.raises(LogMisconfigured, match="does not name a folder on this machine"):
        open_log(url)
    with pytest.raises(ClientError, match="does not name a folder on this machine"):
        folder_of(url)
    assert absolute_url(url) == url  # the log refuses it, and events wait in the outbox
