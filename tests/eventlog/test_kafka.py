"""What only the log on Apache Kafka promises; and that compose.yml does what it says."""

from __future__ import annotations

import logging
import os
import re
import shlex
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kafka_broker import KafkaBroker
from modeltrail.eventlog import (
    REGISTRY,
    RUNS,
    EventLog,
    LogMisconfigured,
    LogRecord,
    LogRefused,
    LogUnavailable,
    NewEvent,
    Partition,
    open_log,
)

ROOT = Path(__file__).resolve().parents[2]


def run_event(text: str, key: str = "run") -> NewEvent:
    return NewEvent(RUNS, key, text.encode())


def read_all(log: EventLog) -> list[LogRecord]:
    count = sum(log.end().values())
    reader = log.reader({})
    records: list[LogRecord] = []
    until = time.monotonic() + 20
    while len(records) < count and time.monotonic() < until:
        records += reader.poll(1.0)
    reader.close()
    return records


@pytest.fixture
def prefix() -> str:
    return f"k{uuid.uuid4().hex[:8]}-"


@pytest.fixture
def admin(kafka: str) -> Iterator[Any]:
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=kafka)
    yield admin
    admin.close()


def alter(admin: Any, topic: str, name: str, value: str) -> None:
    """Set an option of a topic, and wait until the broker shows it, which takes a moment."""
    from kafka.admin import ConfigResource

    admin.alter_configs([ConfigResource("topic", topic, configs={name: value})])
    deadline = time.monotonic() + 20
    while True:
        have = admin.describe_configs([ConfigResource("topic", topic)], config_filter="all")
        if have["topic"][topic][name]["value"] == value:
            return
        assert time.monotonic() < deadline, have["topic"][topic][name]
        time.sleep(0.05)


def test_topics_are_made_to_be_kept_for_ever(kafka: str, prefix: str, admin: Any) -> None:
    from kafka.admin import ConfigResource

    log = open_log(f"kafka://{kafka}/{prefix}?partitions=5&replication_factor=1")
    log.append([run_event("x")])
    log.close()
    topics = {t["name"]: len(t["partitions"]) for t in admin.describe_topics()}
    assert topics[f"{prefix}runs"] == 5
    assert topics[f"{prefix}registry"] == topics[f"{prefix}schemas"] == 1
    for stream in (RUNS, REGISTRY):
        name = prefix + stream
        have = admin.describe_configs([ConfigResource("topic", name)], config_filter="all")
        assert {
            k: have["topic"][name][k]["value"] for k in ("retention.ms", "retention.bytes")
        } == {
            "retention.ms": "-1",
            "retention.bytes": "-1",
        }
        assert have["topic"][name]["cleanup.policy"]["value"] == "delete"
        assert have["topic"][name]["message.timestamp.type"]["value"] == "LogAppendTime"


@pytest.mark.parametrize(
    ("stream", "name", "value"),
    [
        (RUNS, "retention.ms", "604800000"),
        (REGISTRY, "retention.bytes", "1000000"),
        (REGISTRY, "cleanup.policy", "compact"),
        (RUNS, "message.timestamp.type", "CreateTime"),
        (RUNS, "max.message.bytes", "1000000"),
    ],
)
def test_a_topic_that_would_forget_is_a_loud_error_with_its_repair(
    kafka: str, prefix: str, admin: Any, stream: str, name: str, value: str
) -> None:
    url = f"kafka://{kafka}/{prefix}"
    log = open_log(url)
    log.append([run_event("x")])
    log.close()
    topic = prefix + stream
    alter(admin, topic, name, value)
    log = open_log(url)
    with pytest.raises(LogMisconfigured) as said:
        log.reader({})
    log.close()
    assert f"topic {topic} has {name}={value} (must be " in str(said.value)
    repair = re.search(r"--entity-name (\S+) --add-config (\S+)=(\S+)$", str(said.value))
    assert repair is not None
    assert repair[1] == topic
    alter(admin, topic, repair[2], repair[3])
    log = open_log(url)
    log.append([run_event("y")])
    log.close()


def test_a_registry_of_two_partitions_is_a_loud_error(kafka: str, prefix: str, admin: Any) -> None:
    admin.create_topics({f"{prefix}registry": {"num_partitions": 2}}, wait_for_metadata=True)
    log = open_log(f"kafka://{kafka}/{prefix}")
    with pytest.raises(LogMisconfigured, match=r"registry has 2 partitions, and must have 1"):
        log.end()
    log.close()


def test_topics_that_should_be_there_and_are_not(kafka: str, prefix: str) -> None:
    log = open_log(f"kafka://{kafka}/{prefix}", create=False)
    with pytest.raises(LogMisconfigured, match=f"there is no topic {prefix}registry, {prefix}runs"):
        log.append([run_event("x")])
    log.close()


def test_the_lag_is_shown_by_group_offsets(kafka: str, prefix: str, admin: Any) -> None:
    from kafka import TopicPartition

    log = open_log(f"kafka://{kafka}/{prefix}?partitions=1&group={prefix}readers")
    log.append([run_event("x"), run_event("y"), NewEvent(REGISTRY, "", b"z")])
    reader = log.reader({})
    reader.poll(5.0)
    reader.commit({Partition(RUNS, 0): 2, Partition(REGISTRY, 0): 1})
    until = time.monotonic() + 10
    found: dict[Any, Any] = {}
    while len(found) < 2 and time.monotonic() < until:
        reader.poll(0.2)
        found = admin.list_group_offsets([f"{prefix}readers"])[f"{prefix}readers"]
    assert {p: o.offset for p, o in found.items()} == {
        TopicPartition(f"{prefix}runs", 0): 2,
        TopicPartition(f"{prefix}registry", 0): 1,
    }
    reader.close()
    log.close()


def test_partitions_that_are_added_are_read(
    kafka: str, prefix: str, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modeltrail.eventlog.kafka._LOOK_FOR_PARTITIONS_EVERY_S", 0.5)
    monkeypatch.setattr("modeltrail.eventlog.kafka._METADATA_AGE_MAX_MS", 500)
    log = open_log(f"kafka://{kafka}/{prefix}?partitions=1")
    log.append([run_event("first")])
    reader = log.reader({})
    reader.poll(5.0)
    admin.create_partitions({f"{prefix}runs": 4})
    other = open_log(f"kafka://{kafka}/{prefix}")
    until = time.monotonic() + 30
    seen: set[int] = set()
    i = 0
    while seen != {0, 1, 2, 3}:
        assert time.monotonic() < until, seen
        other.append([run_event("x", key=f"run{i}")])
        i += 1
        seen |= {r.partition for r in reader.poll(0.5) if r.stream == RUNS}
    reader.close()
    other.close()
    log.close()


@pytest.mark.alone
def test_opening_and_giving_up_take_no_longer_than_told() -> None:
    before = set(threading.enumerate())
    began = time.monotonic()
    log = open_log("kafka://127.0.0.1:1/away")
    assert time.monotonic() - began < 5.0
    began = time.monotonic()
    with pytest.raises(LogUnavailable, match=r"kafka://127\.0\.0\.1:1/away"):
        log.append([run_event("x")], timeout_s=0.5)
    assert time.monotonic() - began < 5.0
    log.close()
    assert [t.name for t in set(threading.enumerate()) - before] == []


@pytest.mark.alone
def test_an_outage_is_told_in_time_and_order_holds_after_it(own_kafka: KafkaBroker) -> None:
    log = open_log(own_kafka.url("t-", "partitions=2"))
    reader = log.reader({})
    sent = 0

    def append(timeout_s: float) -> None:
        nonlocal sent
        log.append([run_event(f"{sent + i}") for i in range(3)], timeout_s=timeout_s)
        sent += 3

    for _ in range(5):
        append(20.0)
    own_kafka.kill()
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(LogUnavailable):
            append(1.0)
        assert time.monotonic() - began < 8.0
    own_kafka.start()
    began = time.monotonic()
    append(20.0)
    assert time.monotonic() - began < 15.0
    own_kafka.freeze()
    with pytest.raises(LogUnavailable):
        append(1.0)
    own_kafka.thaw()
    for _ in range(5):
        append(20.0)
    records: list[LogRecord] = []
    until = time.monotonic() + 20
    while (not records or records[-1].payload != b"%d" % (sent - 1)) and time.monotonic() < until:
        records += reader.poll(1.0)
    # As the fold does: what is not newer than the last is a repeat.
    kept: list[int] = []
    for record in records:
        if int(record.payload) > (kept[-1] if kept else -1):
            kept.append(int(record.payload))
    assert kept == list(range(sent))
    reader.close()
    log.close()


def test_a_refused_event_does_not_poison_the_next(kafka: str, prefix: str) -> None:
    log = open_log(f"kafka://{kafka}/{prefix}")
    with pytest.raises(LogRefused):
        log.append([NewEvent(RUNS, "a", bytes(9_000_000))])
    log.append([run_event("fine")])
    assert [r.payload for r in read_all(log)] == [b"fine"]
    log.close()


class Keeping(logging.Handler):
    def __init__(self, lines: list[logging.LogRecord]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record)


def test_kafka_python_cannot_flood_the_output(kafka: str, prefix: str) -> None:
    open_log(f"kafka://{kafka}/{prefix}").close()
    lines: list[logging.LogRecord] = []
    handler = Keeping(lines)
    noisy = logging.getLogger("kafka.producer.sender")
    noisy.addHandler(handler)
    text = f"trouble {uuid.uuid4()} %d"
    for i in range(1000):
        noisy.error(text, i)
    noisy.removeHandler(handler)
    assert len(lines) == 1


def test_passwords_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    options = "security_protocol=SASL_PLAINTEXT&sasl_mechanism=PLAIN&sasl_plain_username=me"
    url = f"kafka://127.0.0.1:1/p?{options}"
    monkeypatch.setenv("MODELTRAIL_KAFKA_PASSWORD", "hunter2")
    for log in (open_log(f"{url}&sasl_plain_password=hunter3"), open_log(url)):
        shown = f"{log.url} {log!r}"
        with pytest.raises(LogUnavailable) as said:
            log.append([run_event("x")], timeout_s=0.1)
        assert "hunter" not in shown + str(said.value)
        assert "sasl_plain_username=me" in shown
        log.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("kafka:///prefix", "no broker"),
        ("kafka://host:port/x", "not a Kafka broker"),
        ("kafka://me:secret@host:9092/x", "takes no user"),
        ("kafka://host:9092/a/b", "topics cannot begin"),
        ("kafka://host:9092/x?acks=1", r"unknown option 'acks'(.|\n)*replication_factor"),
        ("kafka://host:9092/x?partitions=none", "expected a number"),
        ("kafka://host:9092/x?compression=gzip", "zstd, lz4 or none"),
    ],
)
def test_a_url_that_is_wrong_says_how(url: str, said: str) -> None:
    with pytest.raises(LogMisconfigured, match=said) as error:
        open_log(url)
    assert "secret" not in str(error.value)


def test_without_kafka_python_the_error_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['kafka'] = None\n"
        "from modeltrail.eventlog import open_log, LogMisconfigured\n"
        "open_log('memory:')\n"
        "try: open_log('kafka://h:1/x')\n"
        "except LogMisconfigured as e: print(e)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'modeltrail[kafka]'" in ran.stdout


# compose.yml: its broker settings and ACLs, on a real broker


def compose() -> dict[str, Any]:
    """The file, with the defaults of its variables put in."""
    import yaml

    text = (ROOT / "compose.yml").read_text()
    found = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))
    assert isinstance(found, dict)
    return found


@pytest.fixture
def secured(tmp_path: Path, kafka: str) -> Iterator[KafkaBroker]:
    """A broker with the settings of compose.yml; only addresses and folder are others."""
    environment = compose()["services"]["kafka"]["environment"]
    settings = {
        k.removeprefix("KAFKA_").lower().replace("_", "."): str(v) for k, v in environment.items()
    }
    for name in ("log.dirs", "controller.quorum.voters"):
        del settings[name]
    settings["listeners"] = "CLIENTS://{broker},CONTROLLER://{controller}"
    settings["advertised.listeners"] = "CLIENTS://{broker}"
    with KafkaBroker(tmp_path / "secured", settings) as broker:
        add_acls(broker)
        yield broker


def add_acls(broker: KafkaBroker) -> None:
    """What the service `acls` does with kafka-acls.sh."""
    from kafka import KafkaAdminClient
    from kafka.admin import (
        ACL,
        ACLOperation,
        ACLPermissionType,
        ACLResourcePatternType,
        ResourcePattern,
        ResourceType,
    )

    script = compose()["services"]["acls"]["command"][0]
    acls = []
    for line in script.splitlines():
        words = shlex.split(line) if line.startswith("acls --add") else []
        if not words:
            continue
        said = dict(zip(words[2::2], words[3::2], strict=True))
        kind = "topic" if "--topic" in said else "group"
        pattern = ResourcePattern(
            ResourceType[kind.upper()],
            said[f"--{kind}"],
            ACLResourcePatternType[said["--resource-pattern-type"].upper()],
        )
        operation = ACLOperation[said["--operation"].upper()]
        acls.append(
            ACL(said["--allow-principal"], "*", operation, ACLPermissionType.ALLOW, pattern)
        )
    assert len(acls) == 4
    admin = KafkaAdminClient(
        bootstrap_servers=broker.bootstrap,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_plain_username="broker",
        sasl_plain_password="broker-secret",
    )
    assert not admin.create_acls(acls)["failed"]
    admin.close()


def user(broker: KafkaBroker, name: str, password: str = "") -> EventLog:
    options = f"security_protocol=SASL_PLAINTEXT&sasl_mechanism=PLAIN&sasl_plain_username={name}"
    options += f"&sasl_plain_password={password or name + '-secret'}"
    return open_log(broker.url("modeltrail-", options))


@pytest.mark.alone
def test_the_broker_of_compose_holds_jobs_to_runs_and_schemas(secured: KafkaBroker) -> None:
    early = user(secured, "jobs")
    with pytest.raises((LogMisconfigured, LogRefused), match=r"modeltrail serve|ACLs"):
        early.append([run_event("too early")], timeout_s=5.0)
    early.close()

    server = user(secured, "server")
    server.append([NewEvent(REGISTRY, "", b"governance")])
    jobs = user(secured, "jobs")
    jobs.add_schemas({b"12345678": '"int"'})
    jobs.append([run_event("from a job")])
    with pytest.raises(LogRefused, match="ACLs"):
        jobs.append([NewEvent(REGISTRY, "", b"not for jobs")], timeout_s=10.0)
    jobs.append([run_event("and another")])
    jobs.close()

    assert server.schemas() == {b"12345678": '"int"'}
    assert sorted(r.payload for r in read_all(server)) == [
        b"and another",
        b"from a job",
        b"governance",
    ]
    server.close()

    began = time.monotonic()
    wrong = user(secured, "jobs", "guessed")
    with pytest.raises((LogMisconfigured, LogUnavailable), match=r"check .*password") as said:
        wrong.append([run_event("x")], timeout_s=3.0)
    assert "guessed" not in str(said.value)
    assert time.monotonic() - began < 5.0
    wrong.close()


def test_compose_runs_the_server_on_the_broker() -> None:
    services = compose()["services"]
    command = services["modeltrail"]["command"]
    [url] = [w.removeprefix("--log=") for w in command if w.startswith("--log=")]
    assert command[0] == "serve"
    log = open_log(url)
    assert log.url.startswith("kafka://kafka:9092/modeltrail-?")
    log.close()
    assert services["modeltrail"]["environment"]["MODELTRAIL_KAFKA_PASSWORD"] == "server-secret"
    assert os.path.exists(ROOT / "Dockerfile")
