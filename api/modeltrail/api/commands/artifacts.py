"""The part of `modeltrail audit verify` that verifies files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from modeltrail.api.commands.common import (
    artifacts_url,
    client_on,
    note,
    progress,
    say,
)
from modeltrail.api.data_folder import DataFolder

_PAGE = 1_000
Records = list[dict[str, Any]]


def check_artifacts(args: argparse.Namespace, folder: DataFolder) -> dict[str, Any]:
    """Compare the records with the stored files. Returns the differences."""
    from modeltrail.api.artifacts.check import Checker
    from modeltrail.api.artifacts.store import open_storage

    checker = Checker(open_storage(artifacts_url(args, folder)))
    with _source(args, folder) as source:
        findings = []
        with progress("reading files") as bar:
            for done, finding in enumerate(checker.check(source.pages()), 1):
                if finding is not None:
                    findings.append(finding)
                if bar is not None:
                    bar(done, source.total)
        if findings:
            # A file that was replaced in the meantime has a newer record.
            newer = {_name(record): record for page in source.pages() for record in page}
            again = [newer[_name(f.record)] for f in findings if _name(f.record) in newer]
            findings = [f for f in map(checker.check_one, again) if f is not None]
    return {
        "ok": not findings,
        "files": checker.files,
        "bytes": checker.bytes,
        "findings": [{"finding": f.kind, "message": f.message, **f.record} for f in findings],
        "elsewhere": source.elsewhere,
    }


def print_artifacts(files: dict[str, Any]) -> None:
    """Print the differences."""
    for line in files["elsewhere"]:
        note(f"not checked: {line}")
    for finding in files["findings"]:
        owner = "run" if finding["kind"] == "run" else "logged model"
        say(
            f"{finding['finding']}: {finding['path']!r} of {owner} {finding['id']}, recorded "
            f"{finding['logged_at']}: {finding['message']} ({finding['location']})"
        )
    wrong = len(files["findings"])
    say(
        f"{files['files']:,} files, {files['bytes']:,} bytes: "
        + (f"{wrong:,} are not as recorded" if wrong else "all as recorded")
    )


def _name(record: dict[str, Any]) -> tuple[str, str, str]:
    return record["kind"], record["id"], record["path"]


class _Source(NamedTuple):
    """Where the records come from."""

    pages: Callable[[], Iterator[Records]]
    total: int
    elsewhere: list[str]
    """Versions whose files are stored elsewhere, and where."""


@contextmanager
def _source(args: argparse.Namespace, folder: DataFolder) -> Iterator[_Source]:
    """Return the folder, or the server that runs on it."""
    server = folder.server()
    query = {"run": args.run, "model": args.model, "limit": _PAGE}
    if server is not None:
        query["consistency"] = "log"
    with client_on(args, server) as client:

        def ask(token: str | None) -> Any:
            return client.get("/api/v1/audit/artifacts", **query, page_token=token)

        def pages() -> Iterator[Records]:
            token = None
            while True:
                found = ask(token)
                yield found["artifacts"]
                token = found["next_page_token"]
                if token is None:
                    return

        first = ask(None)
        yield _Source(pages, first["total"], first["elsewhere"])
