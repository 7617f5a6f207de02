"""What URLs name a log."""

from __future__ import annotations

from pathlib import Path

import pytest

from modeltrail.eventlog import LogMisconfigured, open_log


@pytest.mark.parametrize("form", ["{}", "file:{}", "file://{}", "file://localhost{}"])
def test_a_folder_in_every_form(tmp_path: Path, form: str) -> None:
    log = open_log(form.format(tmp_path / "my-log"))
    assert log.url == f"file:{tmp_path}/my-log"
    log.close()
    assert (tmp_path / "my-log" / "log.sqlite").exists()


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_log("./data").close()
    open_log("file:other").close()
    assert {p.name for p in tmp_path.iterdir()} == {"data", "other"}


def test_a_log_opens_again_by_its_own_url_whatever_its_name(tmp_path: Path) -> None:
    log = open_log(str(tmp_path / "a b%20ü#?"))
    url = log.url
    log.close()
    open_log(url, create=False).close()


@pytest.mark.parametrize(
    "url", ["", "http://server:5000", "postgres://me:hunter2@h/db", "memory:x", "file://host/x"]
)
def test_what_is_no_log_says_what_is(url: str) -> None:
    with pytest.raises(LogMisconfigured, match=r"kafka://host:port") as said:
        open_log(url)
    assert "hunter2" not in str(said.value)
