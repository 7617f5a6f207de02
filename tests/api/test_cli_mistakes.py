"""Every option of every command with absurd values: a message and an exit code, no traceback."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api_server import Job, Server, modeltrail
from modeltrail.api.cli import build_parser, main
from modeltrail.api.commands.options import Parser

ABSURD = [
    *("", " ", "lots", "-1", "0", "1e999", "nan", "-inf", "9" * 30, "1.5", "0x10"),
    *("http://", "http//bad", "http://h:99999", "https://[", "ftp://x", "kafka://", "kafka:/x"),
    *("s3://", "memory:", "file://host/x", "/dev/null", "/proc/nowhere", "a\nb"),
    *("2026-13-45", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "2999-01-01"),
    *("registry:0:99999999999", "runs:99:0", "99999w", "☃" * 300, "\udcff", "%s", "';--", "x.xyz"),
]


PARSER = build_parser()


def every_command() -> Iterator[tuple[list[str], Parser]]:
    """Each command with its words."""
    todo: list[tuple[list[str], Parser]] = [([], PARSER)]
    while todo:
        words, parser = todo.pop()
        todo += [([*words, name], child) for name, child in parser.commands().items()]
        if not parser.commands():
            yield words, parser


def argument(action: argparse.Action, value: str) -> list[str]:
    """An argument as people type it; the form with = lets a value begin with a dash."""
    if not action.option_strings:
        return [value]
    long = action.option_strings[-1]
    return [f"{long}={value}"] if long.startswith("--") else [long, value]


def takes_value(action: argparse.Action) -> bool:
    return action.nargs != 0 and not isinstance(action, argparse._HelpAction)


GOOD = {
    "statement": "SELECT 1",
    "into": "out",
    "user": "nobody",
    "permission": "READ",
    "token_id": "7",
    "source": "no.db",
    "start": "registry:0:0",
    "experiment": "none",
}


def lines() -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Each command with one absurd value, and with good ones for what it must have."""
    for words, parser in every_command():
        actions = [a for a in parser._actions if takes_value(a)]
        of = parser._mutually_exclusive_groups
        needed = [a for a in actions if a.required]
        needed += [g._group_actions[0] for g in of if g.required]
        for action in actions:
            exclusive = [a for g in of if action in g._group_actions for a in g._group_actions]
            others = [a for a in needed if a is not action and a not in exclusive]
            given = [(a, GOOD.get(a.dest, "x")) for a in others]
            for value in ABSURD:
                pairs = sorted([*given, (action, value)], key=lambda pair: actions.index(pair[0]))
                named = [t for a, v in pairs if a.option_strings for t in argument(a, v)]
                placed = [v for a, v in pairs if not a.option_strings]
                yield (*words, action.dest), [*words, *named, *(["--", *placed] if placed else [])]


def parsed(line: list[str]) -> bool:
    """Whether a line is right; one that is not is exit code 2."""
    try:
        PARSER.parse_args(line)
    except SystemExit as stopped:
        if stopped.code != 2:
            raise
        return False
    return True


def test_absurd_values_are_refused_while_they_are_parsed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    typed = refused = 0
    for of, line in lines():
        typed += 1
        if not parsed(line):
            refused += 1
            said = capsys.readouterr().err
            assert said.startswith("modeltrail"), (of, said)
            assert said.count("\n") == 2, (of, said)
    assert typed > 5_000
    assert 0.3 < refused / typed < 0.9


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("serve --memory-limit lots", "--memory-limit: expected a size as in"),
        ("serve --memory-limit 1KB", "at least 64MiB"),
        ("serve --threads 0", "--threads: expected a whole number from 1"),
        ("serve --port 65536", "--port: expected a whole number from 0 to 65,535"),
        ("serve --artifacts ftp://x", "artifacts cannot be kept at 'ftp://x'"),
        ("serve --heart-timeout nan", "--heart-timeout: expected seconds"),
        ("serve --data http://host:5000", "--data: not a folder"),
        ("sql x --timeout 0", "--timeout: expected seconds"),
        ("sql x --limit -1", "--limit: expected a whole number"),
        ("sql x -o x.xyz", "must end in .parquet"),
        ("sql x --server http://", "not the URL of a server"),
        ("sql x --data=", "expected some text"),
        ("sql select 1", "'1' is one argument too many"),
        ("sql --limt 5 x", "there is no option --limt; did you mean '--limit'?"),
        ("audit log --type SetAlias", "did you mean 'SetRegisteredModelAlias'?"),
        ("audit log --until 2999-01-01", "is in the future"),
        ("audit log --since yesterday", "not a time"),
        ("audit verify --trust xyz", "hexadecimal"),
        ("audit verify --run x", "give --artifacts as well"),
        ("audit lgo", "there is no command 'lgo'; did you mean 'log'?"),
        ("sirve", "there is no command 'sirve'; did you mean 'serve'?"),
        ("replay --until never --into x", "neither a time nor a position"),
        ("replay --until 2999-01-01 --into x", "is in the future"),
        ("webhooks replay --from 2999-01-01", "is in the future"),
        ("token create ada --expires 2001-01-01", "is not in the future"),
        ("token create ada --expires 0d", "is not in the future"),
        ("permission grant ada REED --model m", "did you mean 'READ'?"),
        ("status --log ftp://x", "not the URL of a log"),
        ("sync --to http//bad", "not the URL of a server"),
    ],
)
def test_wrong_usage_has_exit_code_2(
    line: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(line.split())
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http//bad", "http:/bad", "https://", "kafka://", "ftp://x"])
def test_a_mistake_in_the_environment_is_told(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELTRAIL_URL", url)
    for line in (["status"], ["serve", "--port", "0"], ["sync"]):
        with pytest.raises(SystemExit) as stopped:
            main(line)
        assert stopped.value.code == 2
        assert "MODELTRAIL_URL: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_group_of_commands_alone_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["audit"])
    assert stopped.value.code == 2
    assert "\n    verify " in capsys.readouterr().err


def test_the_version_number_of_a_model_is_not_the_programs() -> None:
    args = PARSER.parse_args(["audit", "log", "--version", "3"])
    assert (args.version, args.print_version) == (3, False)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a run, and a model."""
    server = Server(tmp_path_factory.mktemp("shared") / "data")
    try:
        server.ready()
        job = Job(experiment_name="vision")
        server.ingest(job.started(), job.metrics("loss", [0.5]))
        server.ask("/api/v1/models/digits/versions", {"source": "s3://a/b", "create_model": True})
        server.ask("/api/v1/models/digits/aliases/champion", {"version": 1}, "PUT")
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("audit log --model digts", "there is no model 'digts'; did you mean 'digits'?"),
        ("audit log --alias champoin", "there is no alias 'champoin'; did you mean 'champion'?"),
        ("audit log --model digits --version 9", "'digits' has no version 9; its newest is 1"),
        ("audit log --actor anonymos", "there is no actor 'anonymos'; did you mean 'anonymous'?"),
        ("audit log --experiment visoin", "no experiment 'visoin'; did you mean 'vision'?"),
        ("audit verify --artifacts --model digts", "Model with name=digts not found"),
        ("audit verify --artifacts --run nope", "Run with id=nope not found"),
        ("export --into out --experiment visoin", "did you mean 'vision'?"),
        ("webhooks retry --webhook nope", "there is no webhook 'nope'"),
        ("webhooks retry --delivery nope", "no dead letter has the id 'nope'"),
        ("webhooks dead --webhook nope", "there is no webhook 'nope'"),
        ("webhooks replay --from registry:0:0 --webhook nope", "there is no webhook 'nope'"),
        ("sync --outbox nowhere", "there is no folder nowhere"),
    ],
)
def test_names_of_nothing_are_told(
    line: str,
    says: str,
    shared: Server,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    where = [] if line.startswith("sync") else ["--data", str(shared.data)]
    assert main([*line.split(), *where]) == 1
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_permission_for_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--data", str(tmp_path / "data")]
    assert main(["user", "create", "ada", "--no-password", *at]) == 0
    for name, told in (("digts", True), ("digits-*", False)):
        assert main(["permission", "grant", "ada", "READ", "--model", name, *at]) == 0
        assert ("there is no registered model 'digts' yet" in capsys.readouterr().err) == told
    assert main(["permission", "list", "--user", "adda", *at]) == 1
    assert "there is no user 'adda'; did you mean 'ada'?" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_knows_few_characters(encoding: str, shared: Server) -> None:
    env = {"PYTHONIOENCODING": encoding}
    query = "SELECT '☃' AS snow"
    for width in ([], ["--width", "40"]):
        found = modeltrail("sql", query, *width, "--server", shared.url, env=env)
        assert (found.returncode, found.stderr) == (0, "")
        assert "snow" in found.stdout


def test_what_has_a_name_but_no_events_is_no_mistake(
    shared: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--server", shared.url]
    assert main(["audit", "log", "--model", "digits", "--until", "2001-01-01", *at]) == 0
    assert "no request to the registry is like that" in capsys.readouterr().err
    assert main(["audit", "log", "--experiment", "Default", "--json", *at]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.timeout(600)  # every command, with two values of each option
def test_absurd_values_that_are_right_give_an_answer_or_a_message(
    shared: Server,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELTRAIL_NEW_PASSWORD", "correct horse")
    monkeypatch.setenv("HOME", str(tmp_path))
    done: dict[tuple[str, ...], int] = {}
    for of, line in lines():
        # What it would do is tried elsewhere: serving, and asking other machines.
        if of[0] == "serve" or any(word in text for text in line for word in ("kafka:", "//h")):
            continue
        # A folder of its own for each takes a second; what the commands share is tried with one.
        if of[-1] in ("data", "log") and of[0] not in ("sql", "replay", "doctor", "user"):
            continue
        if done.get(of, 0) >= 2 or not parsed(line):
            continue
        if "server" in vars(PARSER.parse_args(line)) and of[-1] not in (
            *("data", "log", "server"),
        ):
            words = len(of) - 1
            line = [*line[:words], "--server", shared.url, *line[words:]]
        with open(os.devnull) as nothing, pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdin", nothing)
            try:
                code: Any = main(line)
            except SystemExit as stopped:
                code = stopped.code
        told = capsys.readouterr()
        assert code in (0, 1, 2), (line, code)
        assert code == 0 or told.err or told.out, line
        done[of] = done.get(of, 0) + 1
    assert sum(done.values()) > 100
