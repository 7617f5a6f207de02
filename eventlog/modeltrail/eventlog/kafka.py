"""A log on Apache Kafka: topics ``<prefix>runs``, ``<prefix>registry``, ``<prefix>schemas``.

The producer's settings are those with which a killed or frozen broker lost nothing and kept the
order: ``acks=all`` and one request in flight. The idempotent producer is off, because one refused
record makes it fail for good. Records may be repeated; the fold drops repeats.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from modeltrail.eventlog.base import (
    REGISTRY,
    RUNS,
    LogClosed,
    LogError,
    LogMisconfigured,
    LogRecord,
    LogRefused,
    LogUnavailable,
    NewEvent,
    Partition,
    Position,
    check_events,
)
from modeltrail.limits import EVENT_BYTES_MAX

if TYPE_CHECKING:
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

_SCHEMAS = "schemas"
_DEFAULT_PREFIX = "modeltrail-"
_PASSWORD_ENVIRONMENT = "MODELTRAIL_KAFKA_PASSWORD"

# With a fixed version, constructors neither ask the broker nor block while it is away. Every broker
# from 2.8 to 4.x supports these protocol versions.
_API_VERSION = (2, 8)

_BATCH_BYTES_MAX = EVENT_BYTES_MAX + 64 * 1024  # an event and Kafka's overhead
_PRODUCER_BATCH_BYTES = 512 * 1024
_FETCH_BYTES_MAX = 32 * 1024 * 1024
_POLL_RECORDS_MAX = 5_000
_POLL_SLICE_S = 0.1  # how soon wake() takes effect
_LOOK_FOR_PARTITIONS_EVERY_S = 30.0
_METADATA_AGE_MAX_MS = 30_000
_ASK_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 5.0

_OURS = {
    "partitions": "of the topic runs, if it has to be made; 8 if not given",
    "replication_factor": "of topics that have to be made; the broker's default if not given",
    "compression": "zstd, lz4 or none; lz4 if not given",
    "group": "consumer group whose offsets show the lag; <prefix>fold if not given",
    "client_id": "how brokers name this client in their logs; modeltrail if not given",
}
_PASSED_ON = (
    "security_protocol",
    "sasl_mechanism",
    "sasl_plain_username",
    "sasl_plain_password",
    "sasl_kerberos_name",
    "sasl_kerberos_service_name",
    "sasl_kerberos_domain_name",
    "ssl_check_hostname",
    "ssl_cafile",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_password",
    "ssl_crlfile",
    "ssl_ciphers",
)
_SECRET = ("sasl_plain_password", "ssl_password")

_KEPT_FOR_EVER = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "message.timestamp.type": "LogAppendTime",
    "max.message.bytes": str(_BATCH_BYTES_MAX),
}
_WANTED = {
    RUNS: _KEPT_FOR_EVER,
    REGISTRY: _KEPT_FOR_EVER,
    _SCHEMAS: {"cleanup.policy": "compact"},
}
# Every training job writes its schemas again. With small segments, compaction soon removes the
# repeats.
_ON_CREATION = {_SCHEMAS: {"segment.bytes": str(16 * 1024 * 1024)}}


_Record = tuple[str, bytes, bytes | None, int | None]  # topic, value, key, partition


class _Settings:
    """The settings in a URL."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise LogMisconfigured(
                "a Kafka URL takes no user before the host; use ?sasl_plain_username=… and put "
                f"the password into the environment variable {_PASSWORD_ENVIRONMENT}"
            )
        self.bootstrap = [h for h in parts.netloc.split(",") if h]
        for host in self.bootstrap:
            if not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(:\d{1,5})?", host):
                raise LogMisconfigured(f"{host!r} is not a Kafka broker; expected as in host:9092")
        if not self.bootstrap:
            raise LogMisconfigured("no broker in the URL; expected as in kafka://host:9092/prefix")
        self.prefix = parts.path.lstrip("/") or _DEFAULT_PREFIX
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", self.prefix):
            raise LogMisconfigured(
                f"topics cannot begin with {self.prefix!r}: only letters, digits, '.', '_' and '-'"
            )
        options: dict[str, str] = {}
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            if name not in _OURS and name not in _PASSED_ON:
                ours = "".join(f"\n  {k}: {v}" for k, v in _OURS.items())
                raise LogMisconfigured(
                    f"unknown option {name!r} in the log's URL; there are{ours}\n  and, handed to "
                    f"kafka-python as they are: {', '.join(_PASSED_ON)}"
                )
            options[name] = value
        self.url = f"kafka://{','.join(self.bootstrap)}/{self.prefix}"
        shown = [f"{k}={v}" for k, v in options.items() if k not in _SECRET]
        if shown:
            self.url += "?" + "&".join(shown)
        self.partitions = _number(options, "partitions", 8)
        self.replication_factor = _number(options, "replication_factor", -1)
        compression = options.get("compression", "lz4")
        if compression not in ("zstd", "lz4", "none"):
            raise LogMisconfigured(f"compression={compression}: expected zstd, lz4 or none")
        self.compression = None if compression == "none" else compression
        self.group = options.get("group", f"{self.prefix}fold")
        self.client: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "client_id": options.get("client_id", "modeltrail"),
            "api_version": _API_VERSION,
            "reconnect_backoff_ms": 50,
            "reconnect_backoff_max_ms": 1_000,
            "metadata_max_age_ms": _METADATA_AGE_MAX_MS,
        }
        for name in _PASSED_ON:
            if name in options:
                self.client[name] = options[name]
        if "ssl_check_hostname" in options:
            self.client["ssl_check_hostname"] = options["ssl_check_hostname"].lower() != "false"
        password = os.environ.get(_PASSWORD_ENVIRONMENT)
        if password and "sasl_mechanism" in options:
            self.client.setdefault("sasl_plain_password", password)

    def topic(self, stream: str) -> str:
        return self.prefix + stream


def _number(options: Mapping[str, str], name: str, default: int) -> int:
    text = options.get(name)
    if text is None:
        return default
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise LogMisconfigured(f"{name}={text}: expected a number from 1 to 10000")
    return int(text)


class KafkaLog:
    """An event log on Kafka."""

    shared = True

    def __init__(self, url: str, *, create: bool = True) -> None:
        """Parse the URL. The broker is contacted on first use.

        Topics are then created (with ``create``) and their settings checked, as far as this client
        is allowed to. A job that may only write skips this.

        Args:
            url: ``kafka://host:port,host:port/prefix?option=value&…``.
            create: Create topics that do not exist.

        Raises:
            LogMisconfigured: the URL is invalid, or kafka-python is not installed.
        """
        self._settings = _Settings(url)
        self.url = self._settings.url
        self._create = create
        self._closed = False
        self._known: dict[bytes, str] = {}
        self._begin()
        with _translated(self._settings):
            # imports kafka-python, so that a missing one is reported now
            self._new_producer_settings()
        _LIVE.add(self)

    def _begin(self) -> None:
        """Set up the state that a forked child must not share with its parent."""
        self._admin: KafkaAdminClient | None = None
        self._admin_lock = threading.RLock()
        self._producer: KafkaProducer | None = None
        self._producer_lock = threading.Lock()
        self._idle = threading.Condition()
        self._appending = 0
        self._counts: dict[str, int] | None = None

    def _forget(self) -> None:
        """In a forked child, drop the inherited client: it accepts records but never sends them."""
        if self._producer is not None:
            self._producer._closed = True
            _INHERITED.append(self._producer)
        if self._admin is not None:
            self._admin._closed = True
            _INHERITED.append(self._admin)
        self._begin()

    # Appending

    def append(self, events: Sequence[NewEvent], timeout_s: float = 30.0) -> list[Position]:
        check_events(events)
        s = self._settings
        records: list[_Record] = [
            (s.topic(e.stream), e.payload, e.key.encode(), None)
            if e.stream == RUNS
            else (s.topic(e.stream), e.payload, None, 0)
            for e in events
        ]
        acknowledged = self._send(records, time.monotonic() + timeout_s, timeout_s)
        return [
            Position(e.stream, partition, offset)
            for e, (partition, offset) in zip(events, acknowledged, strict=True)
        ]

    def _send(
        self,
        records: Sequence[_Record],
        until: float,
        timeout_s: float,
    ) -> list[tuple[int, int]]:
        """Send events and wait. Returns (partition, offset) for each."""
        from kafka.errors import IllegalStateError, KafkaError, RetriableError

        with self._idle:
            if self._closed:
                raise LogClosed("the log was closed")
            self._appending += 1
        try:
            with _translated(self._settings):
                self._prepare(until)
                while True:
                    producer = self._get_producer()
                    try:
                        futures = [
                            producer.send(topic, value=value, key=key, partition=partition)
                            for topic, value, key, partition in records
                        ]
                        done = [f.get(max(until - time.monotonic(), 0)) for f in futures]
                        return [(d.partition, d.offset) for d in done]
                    except (KafkaError, AssertionError) as e:
                        # Its pending records must not arrive after the caller's next ones, and a
                        # spinning sender must stop.
                        self._discard_producer(producer)
                        if self._closed:
                            raise LogClosed("the log was closed") from e
                        if time.monotonic() >= until - 0.05:  # a time-out may come slightly early
                            raise LogUnavailable(
                                f"{self.url}: not acknowledged within {timeout_s:g} s "
                                f"({type(e).__name__})"
                            ) from e
                        # Another thread ran out of time and discarded the producer, or the metadata
                        # is not there yet. There is time left to try again.
                        again = (RetriableError, IllegalStateError)
                        if type(e) is not KafkaError and not isinstance(e, again):
                            raise
                        time.sleep(0.02)
        finally:
            with self._idle:
                self._appending -= 1
                self._idle.notify_all()

    def _new_producer_settings(self) -> dict[str, Any]:
        _import_kafka()
        return {
            **self._settings.client,
            "acks": "all",
            "enable_idempotence": False,
            "max_in_flight_requests_per_connection": 1,
            "compression_type": self._settings.compression,
            "linger_ms": 2,
            "batch_size": _PRODUCER_BATCH_BYTES,
            "max_request_size": _BATCH_BYTES_MAX,
            "max_block_ms": 500,
            "request_timeout_ms": 15_000,
            # Not before append() gives up: of two batches, the later could be sent after the
            # earlier was dropped.
            "delivery_timeout_ms": 24 * 3600 * 1_000,
            "allow_auto_create_topics": False,
            "metrics_enabled": False,
        }

    def _get_producer(self) -> KafkaProducer:
        from kafka import KafkaProducer

        with self._producer_lock:
            if self._closed:
                raise LogClosed("the log was closed")
            if self._producer is None:
                self._producer = KafkaProducer(**self._new_producer_settings())
            return self._producer

    def _discard_producer(self, producer: KafkaProducer) -> None:
        """Drop the producer and its pending records. Appends of other threads send theirs again."""
        with self._producer_lock:
            if self._producer is producer:
                self._producer = None
        _end_producer(producer, 0.0)

    # Topics

    def _prepare(self, until: float) -> dict[str, int]:
        """Create and check topics, once per process.

        Returns the partitions of each visible topic.
        """
        if self._counts is not None:
            return self._counts
        if not self._admin_lock.acquire(timeout=max(until - time.monotonic(), 0)):
            raise LogUnavailable(f"{self.url}: no broker answers")
        try:
            if self._counts is None:
                with self._asking(until) as admin:
                    self._counts = self._check_topics(admin, until)
            return self._counts
        finally:
            self._admin_lock.release()

    @contextmanager
    def _asking(self, until: float) -> Iterator[KafkaAdminClient]:
        """Return the admin client, and discard it after an error."""
        from kafka import KafkaAdminClient

        with self._admin_lock:
            if self._closed:
                raise LogClosed("the log was closed")
            if self._admin is None:
                left_ms = int(max(until - time.monotonic(), 0.001) * 1_000)
                admin = KafkaAdminClient.__new__(KafkaAdminClient)
                try:
                    admin.__init__(
                        **self._settings.client,
                        bootstrap_timeout_ms=left_ms,
                        request_timeout_ms=10_000,
                    )
                except BaseException:
                    _end_admin(admin)  # it has already started a thread
                    raise
                self._admin = admin
            try:
                yield self._admin
            except BaseException:
                _end_admin(self._admin)
                self._admin = None
                raise

    def _check_topics(self, admin: KafkaAdminClient, until: float) -> dict[str, int]:
        from kafka.errors import UnknownTopicOrPartitionError, for_code

        s = self._settings
        names = {s.topic(stream): stream for stream in _WANTED}
        made = False
        while True:
            found: dict[str, int] = {}
            missing = []
            for topic in admin.describe_topics(list(names)):
                name = topic["name"]
                if topic["error_code"] == 0:
                    found[names[name]] = len(topic["partitions"])
                elif for_code(topic["error_code"]) is UnknownTopicOrPartitionError:
                    missing.append(name)
                # Otherwise this user may not see it, and will not use it.
            if not missing:
                break
            if not self._create:
                raise LogMisconfigured(
                    f"there is no topic {', '.join(sorted(missing))} on {','.join(s.bootstrap)}; "
                    "`modeltrail serve --log URL` creates it"
                )
            if made and time.monotonic() > until:
                raise LogUnavailable(f"{self.url}: new topics do not exist yet")
            if not made:
                self._make_topics(admin, {names[m] for m in missing})
                made = True
            else:
                time.sleep(0.05)
        self._check_settings(admin, found)
        return found

    def _make_topics(self, admin: KafkaAdminClient, streams: set[str]) -> None:
        from kafka.errors import AuthorizationError, TopicAlreadyExistsError, for_code

        s = self._settings
        new: dict[str, Any] = {}
        for stream in streams:
            configs = {**_WANTED[stream], **_ON_CREATION.get(stream, {})}
            if s.replication_factor >= 3:
                configs["min.insync.replicas"] = "2"  # otherwise acks=all might mean one copy
            new[s.topic(stream)] = {
                "num_partitions": s.partitions if stream == RUNS else 1,
                "replication_factor": s.replication_factor,
                "configs": configs,
            }
        for topic in admin.create_topics(new, raise_errors=False)["topics"]:
            error = for_code(topic["error_code"])
            if topic["error_code"] == 0 or error is TopicAlreadyExistsError:
                continue
            said = topic.get("error_message") or error.__name__
            if issubclass(error, AuthorizationError):
                said = "this user may not; let `modeltrail serve --log URL` make it"
            raise LogMisconfigured(f"cannot create topic {topic['name']}: {said}")

    def _check_settings(self, admin: KafkaAdminClient, found: Mapping[str, int]) -> None:
        from kafka.admin import ConfigResource, ConfigResourceType
        from kafka.errors import AuthorizationError

        s = self._settings
        server = ",".join(s.bootstrap)
        for stream in (REGISTRY, _SCHEMAS):
            if found.get(stream, 1) != 1:
                topic = s.topic(stream)
                raise LogMisconfigured(
                    f"topic {topic} has {found[stream]} partitions, and must have 1: one order is "
                    "what it is for. Partitions cannot be taken away: use another prefix, or, only "
                    f"if nothing is in it, kafka-topics.sh --bootstrap-server {server} "
                    f"--delete --topic {topic}"
                )
        for stream in found:
            topic = s.topic(stream)
            try:
                answer = admin.describe_configs(
                    [ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all"
                )
            except AuthorizationError:
                continue  # a direct writer may not; the server checks
            have = {k: v["value"] for k, v in answer["topic"].get(topic, {}).items()}
            if not have:
                continue  # as above, in kafka-python 3
            wrong = {k: v for k, v in _WANTED[stream].items() if not _fits(k, have.get(k), v)}
            if wrong:
                said = ", ".join(f"{k}={have.get(k)} (must be {v})" for k, v in wrong.items())
                repair = ",".join(f"{k}={v}" for k, v in wrong.items())
                raise LogMisconfigured(
                    f"topic {topic} has {said}, and would lose or alter what Modeltrail keeps. "
                    f"Repair: kafka-configs.sh --bootstrap-server {server} --alter "
                    f"--entity-type topics --entity-name {topic} --add-config {repair}"
                )

    # Reading

    def reader(self, start: Mapping[Partition, int]) -> KafkaReader:
        with _translated(self._settings):
            self._prepare(time.monotonic() + _ASK_TIMEOUT_S)
        return KafkaReader(self, start)

    def end(self) -> dict[Partition, int]:
        return self._ends((RUNS, REGISTRY))

    def _ends(self, streams: Sequence[str]) -> dict[Partition, int]:
        from kafka import TopicPartition
        from kafka.admin import OffsetSpec

        s = self._settings
        until = time.monotonic() + _ASK_TIMEOUT_S
        with _translated(s):
            counts = self._prepare(until)
            with self._asking(until) as admin:
                if RUNS in streams:  # partitions may have been added
                    [topic] = admin.describe_topics([s.topic(RUNS)])
                    counts[RUNS] = len(topic["partitions"]) or counts.get(RUNS, 0)
                partitions = [
                    Partition(stream, i) for stream in streams for i in range(counts.get(stream, 0))
                ]
                offsets = admin.list_partition_offsets(
                    {
                        TopicPartition(s.topic(p.stream), p.partition): OffsetSpec.LATEST
                        for p in partitions
                    },
                    timeout_ms=int(_ASK_TIMEOUT_S * 1_000),
                )
        return {
            p: offsets[TopicPartition(s.topic(p.stream), p.partition)].offset for p in partitions
        }

    def add_schemas(self, schemas: Mapping[bytes, str]) -> None:
        """Store writer schemas; see ``EventLog.add_schemas``.

        A client that may only write cannot see which are stored. It writes all of them, and
        compaction removes the repeats.
        """
        new = {f: text for f, text in schemas.items() if f not in self._known}
        if new:
            topic = self._settings.topic(_SCHEMAS)
            records: list[_Record] = [(topic, text.encode(), f, 0) for f, text in new.items()]
            self._send(records, time.monotonic() + 30.0, 30.0)
            self._known.update(new)

    def schemas(self) -> dict[bytes, str]:
        end = self._ends((_SCHEMAS,))[Partition(_SCHEMAS, 0)]
        if not end:
            return {}
        from kafka import TopicPartition

        s = self._settings
        found: dict[bytes, str] = {}
        until = time.monotonic() + _ASK_TIMEOUT_S
        with _translated(s):
            consumer = self._consumer(group=None)
            try:
                partition = TopicPartition(s.topic(_SCHEMAS), 0)
                consumer.assign([partition])
                consumer.seek(partition, 0)
                at = 0
                while at < end:
                    if time.monotonic() > until:
                        raise LogUnavailable(f"{self.url}: cannot read the schemas")
                    for record in consumer.poll(timeout_ms=200).get(partition, ()):
                        found.setdefault(record.key, record.value.decode())
                    at = consumer.position(partition) or at
            finally:
                consumer.close(autocommit=False, timeout_ms=1_000)
        self._known.update(found)
        return found

    def _consumer(self, group: str | None) -> KafkaConsumer:
        _import_kafka()
        from kafka import KafkaConsumer

        return KafkaConsumer(
            **self._settings.client,
            group_id=group or None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_bytes=_FETCH_BYTES_MAX,
            max_partition_fetch_bytes=_FETCH_BYTES_MAX,
            max_poll_records=_POLL_RECORDS_MAX,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )

    def close(self) -> None:
        """Close the log; see ``EventLog.close``. Takes a few seconds at most."""
        until = time.monotonic() + _CLOSE_TIMEOUT_S
        with self._idle:
            self._closed = True
            while self._appending and time.monotonic() < until:
                self._idle.wait(until - time.monotonic())
        with self._producer_lock:
            producer, self._producer = self._producer, None
        if producer is not None:
            _end_producer(producer, 1.0)
        with self._admin_lock:
            if self._admin is not None:
                _end_admin(self._admin)
                self._admin = None

    def __repr__(self) -> str:
        return f"KafkaLog({self.url!r})"


class KafkaReader:
    """Reads a ``KafkaLog``. It assigns itself the partitions and joins no consumer group."""

    def __init__(self, log: KafkaLog, start: Mapping[Partition, int]) -> None:
        self._log = log
        self._next = dict(start)
        self._read: deque[LogRecord] = deque()
        self._streams = {log._settings.topic(s): s for s in (RUNS, REGISTRY)}
        self._woken = threading.Event()
        self._closed = False
        self._look_again = 0.0
        with _translated(log._settings):
            self._consumer = log._consumer(log._settings.group)
            self._assigned: set[Any] = set()
            self._assign(log._counts or {})
        _LIVE.add(self)

    def _forget(self) -> None:
        _INHERITED.append(self._consumer)
        self._closed = True

    def _assign(self, counts: Mapping[str, int]) -> None:
        """Assign all partitions and seek to the next offset of each."""
        from kafka import TopicPartition

        partitions = {
            TopicPartition(topic, i)
            for topic, stream in self._streams.items()
            for i in range(counts.get(stream, 0))
        }
        self._look_again = time.monotonic() + _LOOK_FOR_PARTITIONS_EVERY_S
        if partitions <= self._assigned:
            return
        ahead: dict[Partition, int] = {}
        for r in self._read:  # read but not yet returned
            ahead[Partition(r.stream, r.partition)] = r.offset + 1
        self._consumer.assign(sorted(partitions))
        for p in partitions:
            mine = Partition(self._streams[p.topic], p.partition)
            self._consumer.seek(p, ahead.get(mine, self._next.get(mine, 0)))
        self._assigned = partitions

    def poll(self, timeout_s: float, bytes_max: int = 32 * 1024 * 1024) -> list[LogRecord]:
        until = time.monotonic() + timeout_s
        with _translated(self._log._settings):
            while not self._read:
                if self._closed or self._log._closed:
                    raise LogClosed("the log or its reader was closed")
                if self._woken.is_set():
                    self._woken.clear()
                    return []
                now = time.monotonic()
                if now >= self._look_again:
                    self._assign(self._seen_partitions())
                self._take(min(max(until - now, 0.0), _POLL_SLICE_S))
                if not self._read and time.monotonic() >= until:
                    return []
            out: list[LogRecord] = []
            while bytes_max > 0:
                if not self._read:
                    self._take(0.0)
                    if not self._read:
                        break
                record = self._read.popleft()
                out.append(record)
                self._next[Partition(record.stream, record.partition)] = record.offset + 1
                bytes_max -= len(record.payload)
            return out

    def _seen_partitions(self) -> dict[str, int]:
        """Return the partitions in the consumer's own metadata, without asking the broker."""
        cluster = self._consumer._client.cluster
        return {
            stream: len(cluster.partitions_for_topic(topic) or ())
            for topic, stream in self._streams.items()
        }

    def _take(self, timeout_s: float) -> None:
        for p, records in self._consumer.poll(timeout_ms=int(timeout_s * 1_000)).items():
            stream, partition = self._streams[p.topic], p.partition
            self._read.extend(
                LogRecord(stream, partition, r.offset, r.timestamp, r.value) for r in records
            )

    def wake(self) -> None:
        """Make ``poll`` return within 0.1 s; see ``Reader.wake``."""
        self._woken.set()

    def commit(self, positions: Mapping[Partition, int]) -> None:
        """Commit the offsets of the consumer group with a later ``poll``; see ``Reader.commit``."""
        if self._closed or not self._log._settings.group:
            return
        from kafka import TopicPartition
        from kafka.errors import KafkaError
        from kafka.structs import OffsetAndMetadata

        offsets = {
            TopicPartition(self._log._settings.topic(p.stream), p.partition): OffsetAndMetadata(
                offset, "", -1
            )
            for p, offset in positions.items()
        }
        with suppress(KafkaError):
            self._consumer.commit_async(offsets)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            from kafka.errors import KafkaError

            with suppress(KafkaError):
                self._consumer.close(autocommit=False, timeout_ms=1_000)


def _fits(name: str, have: str | None, want: str) -> bool:
    if name == "max.message.bytes":
        return have is not None and int(have) >= int(want)
    return have == want


@contextmanager
def _translated(settings: _Settings) -> Iterator[None]:
    """Return the ``LogError`` for an error of kafka-python."""
    try:
        yield
    except ImportError as e:
        raise LogMisconfigured(
            f"{settings.url} needs kafka-python, which is not installed ({e}): "
            "pip install 'modeltrail[kafka]'"
        ) from e
    except LogError:
        raise
    except Exception as e:
        raise _our_error(settings, e) from e


def _our_error(settings: _Settings, e: Exception) -> LogError:
    import kafka.errors as ke

    said = f"{settings.url}: {e if str(e).startswith(type(e).__name__) else repr(e)}"
    for secret in _SECRET:
        if settings.client.get(secret):
            said = said.replace(settings.client[secret], "…")
    if isinstance(e, (ke.SaslAuthenticationFailedError, ke.UnsupportedSaslMechanismError)):
        return LogMisconfigured(
            f"{said}; check sasl_mechanism, sasl_plain_username and the password "
            f"({_PASSWORD_ENVIRONMENT})"
        )
    if isinstance(e, (ke.OffsetOutOfRangeError, ke.LogTruncationError)):
        return LogMisconfigured(
            f"{said}: the log does not have the position to read from. This is another log, or a "
            "topic was cut short or created again. Restore it, or rebuild the projections from it"
        )
    if isinstance(e, ke.AuthorizationError):
        return LogRefused(f"{said}: the broker's ACLs do not let this user do that")
    refused = (ke.MessageSizeTooLargeError, ke.RecordListTooLargeError, ke.InvalidRecordError)
    if isinstance(e, refused):
        return LogRefused(said)
    if isinstance(e, ke.KafkaError):
        if "sasl_mechanism" in settings.client:
            # A broker that gets a wrong password closes the connection, and then looks as if it
            # were away.
            said += f"; if the broker runs, check user and password ({_PASSWORD_ENVIRONMENT})"
        return LogUnavailable(said)
    if isinstance(e, (OSError, ConnectionError)) and not isinstance(e, FileNotFoundError):
        return LogUnavailable(said)
    return LogMisconfigured(said)


def _end_producer(producer: KafkaProducer, timeout_s: float) -> None:
    # close() does nothing while records are pending and no broker answers.
    producer._unregister_cleanup()
    producer._sender.force_close()
    producer._closed = True
    if timeout_s and threading.current_thread() is not producer._sender:
        producer._sender.join(timeout_s)


def _end_admin(admin: KafkaAdminClient) -> None:
    with suppress(Exception):
        admin._closed = True
        admin._client.close()
    with suppress(Exception):
        admin._net.stop()


class _OncePerTime(logging.Filter):
    """Pass a log message of kafka-python once in ten seconds; it can write 70,000 a second."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.INFO:
            return True
        key = str(record.msg)[:200]
        now = time.monotonic()
        if now - self._seen.get(key, -100.0) < 10.0:
            return False
        if len(self._seen) > 1_000:
            self._seen.clear()
        self._seen[key] = now
        return True


_limited = threading.Lock()
_limit: _OncePerTime | None = None


def _import_kafka() -> None:
    """Import kafka-python (0.2 s, 24 MB) when it is needed, and limit what it logs."""
    global _limit
    if _limit is not None:
        return
    # Otherwise a program that turns warnings into errors could not import it.
    warnings.filterwarnings(
        "ignore", r"(read|open)_text is deprecated", DeprecationWarning, r"(kafka|importlib)\."
    )
    import kafka  # noqa: F401

    with _limited:
        if _limit is None:
            _limit = _OncePerTime()
            # A filter on a parent logger does not see the messages of its children.
            for name in list(logging.root.manager.loggerDict):
                if name.startswith("kafka."):
                    logging.getLogger(name).addFilter(_limit)


_LIVE: weakref.WeakSet[KafkaLog | KafkaReader] = weakref.WeakSet()
# Inherited objects of a forked child, kept from the garbage collector, which would close them.
_INHERITED: list[Any] = []


def _after_fork() -> None:
    for one in list(_LIVE):
        one._forget()


os.register_at_fork(after_in_child=_after_fork)
