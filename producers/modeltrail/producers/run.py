"""Runs: the API of a training job."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any

from modeltrail.limits import (
    EXPERIMENT_NAME_CHARACTERS_MAX,
    ID_CHARACTERS_MAX,
    KEY_CHARACTERS_MAX,
    RUN_ENDED,
    is_too_long,
)
from modeltrail.producers import process
from modeltrail.producers.buffer import (
    POINTS_MAX,
    SERIES_CHUNK,
    ArtifactOrder,
    Entry,
    Event,
    Mark,
    Notice,
    Producer,
    Series,
    SeriesPoints,
)
from modeltrail.producers.settings import Settings, read_settings
from modeltrail.producers.values import (
    artifact_name,
    as_float,
    as_step,
    as_text,
    is_key,
)

if TYPE_CHECKING:
    from types import TracebackType

    from modeltrail.producers.channel import Channel
    from modeltrail.producers.system import SystemMetrics

_MESSAGE_CHARS_MAX = 8_000
_SERIES_WAIT_S = 1.0
_START_TEXTS_CHARS_MAX = 250_000

_active: ContextVar[tuple[Run, ...]] = ContextVar("modeltrail_active_runs", default=())


def start_run(
    experiment: str = "Default",
    name: str | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    parent: Run | str | None = None,
    run_id: str | None = None,
    url: str | os.PathLike[str] | None = None,
    user: str | None = None,
    token: str | None = None,
    system_metrics: bool | None = None,
) -> Run:
    """Start or resume a run. Returns at once, whether or not the target can be reached.

    Use the run as a context manager, or call ``Run.finish``. A run that is not finished ends with
    the interpreter: as FINISHED, or as FAILED if an uncaught exception ended the program.

    Args:
        experiment: Name of the experiment, of 1 to 500 characters; it is created if needed. An
            invalid name causes a warning, and the run goes to ``Default``.
        name: Display name.
        params: Params known at the start.
        tags: Tags known at the start.
        parent: The run in which this one is nested, or its id.
        run_id: Resume this run: it is RUNNING again, and new data is added to it.
        url: Where to log to; default ``MODELTRAIL_URL``, else the folder ``./modeltrail-data``.
        user: The user of the run; default: the operating system's user.
        token: Bearer token for ``http(s)://`` targets; default ``MODELTRAIL_TOKEN``.
        system_metrics: Record CPU, memory, disk, network and GPUs until the run ends, as metrics
            ``system/…``; default ``MODELTRAIL_SYSTEM_METRICS``. Needs ``modeltrail[system]``.

    Raises:
        ImportError: ``system_metrics`` is true, and what it needs is not installed.
        ValueError: ``run_id`` is not 1 to 256 letters, digits, dots, dashes and underscores.
    """
    if run_id is not None and not _is_run_id(run_id):
        raise ValueError(f"not a run id: {run_id!r}")
    settings = read_settings(url, token)
    samples = settings.system_metrics if system_metrics is None else system_metrics
    if samples:
        samples = _has_system_metrics(required=system_metrics is not None)
    run = Run(run_id or new_run_id(), settings, user=None, owner=True)
    run.act_as(user)
    if run_id is not None:
        run.resume(name)
        run.log_params(params or {})
        run.set_tags(tags or {})
    else:
        run.begin(
            experiment_name=run.experiment_named(experiment),
            name=name,
            parent_run_id=parent.run_id if isinstance(parent, Run) else parent,
            params=params,
            tags=tags,
        )
    if samples:
        run.sample_system()
    _active.set((*_active.get(), run))
    return run


def _has_system_metrics(*, required: bool) -> bool:
    """Return whether system metrics can be recorded. Warn or raise ``ImportError`` if not."""
    from modeltrail.producers.system import check_installed

    try:
        check_installed()
    except ImportError as error:
        if required:
            raise
        from modeltrail.producers.notices import warn

        warn(str(error))
        return False
    return True


def active_run() -> Run | None:
    """Return the latest unfinished run of this thread or task, or None."""
    runs = [run for run in _active.get() if not run.finished]
    return runs[-1] if runs else None


class Run:
    """A run. Its methods are thread-safe, and none raises because of a bad argument.

    Data that cannot be kept is counted, and the logger ``modeltrail`` warns once for each kind.
    After a fork, the child's copy adds to the same run as a separate writer; only the process that
    started the run ends it. A pickled run also adds to the same run.
    """

    _subject = "run_id"
    """The field of this object's events that holds its id."""

    def __init__(self, run_id: str, settings: Settings, *, user: str | None, owner: bool) -> None:
        """Use ``start_run``."""
        self.run_id = run_id
        self.settings = settings
        self.name: str | None = None
        """Display name, or None if this process did not set one."""
        self.status = "RUNNING"
        """RUNNING, or the status with which this process ended the run."""
        self.finished = False
        """True after ``finish``."""
        self.managed = False
        """Whether another library decides when the run ends.

        If so, the interpreter's exit does not end it, and logging after its end causes no warning.
        """
        self._user = user
        self.owner = owner
        """Whether this process ends the run, and sends its heartbeats until then."""
        self._steps = count()
        self._system: SystemMetrics | None = None
        self._attach()
        process.remember(self)

    def begin(
        self,
        *,
        experiment_name: str | None = None,
        experiment_id: str | None = None,
        name: str | None = None,
        parent_run_id: str | None = None,
        started_at_ms: int | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Record the start of a new run; see ``start_run``. Needs an experiment's name or id."""
        from modeltrail.producers.environment import code_folder

        self.name = self._text("name", name)
        fields: dict[str, Any] = {
            "experiment_name": experiment_name,
            "experiment_id": experiment_id,
            "name": self.name,
            "parent_run_id": self._text("parent", parent_run_id),
            "started_at_ms": _now_ms() if started_at_ms is None else started_at_ms,
            "heartbeat_interval_ms": self._heartbeat_ms,
        }
        texts = {"params": self._texts(params, "param"), "tags": self._texts(tags, "tag")}
        if sum(len(v) for t in texts.values() for v in t.values()) <= _START_TEXTS_CHARS_MAX:
            fields |= texts
            texts = {}
        self._producer.code_folder = code_folder()
        self.record("RunStarted", fields)
        self.log_params(texts.get("params", {}))
        self.set_tags(texts.get("tags", {}))
        process.install_sigterm()

    def resume(self, name: str | None = None) -> None:
        """Record that the run is RUNNING again, with heartbeats from this process."""
        self.finished = False
        self.owner = self._producer.owner = True
        self.status = "RUNNING"
        self.name = self._text("name", name) or self.name
        fields = {
            "name": self._text("name", name),
            "status": "RUNNING",
            "heartbeat_interval_ms": self._heartbeat_ms,
        }
        self.record("RunUpdated", fields)
        process.install_sigterm()

    def sample_system(self) -> None:
        """Record system metrics, in a thread, until the run ends."""
        from modeltrail.producers.system import SystemMetrics

        self._system = SystemMetrics(self, self.settings.system_metrics_interval_s)

    def act_as(self, user: Any) -> None:
        """Set the run's user; None for the operating system's user."""
        self._user = self._producer.user = self._text("user", user)

    def experiment_named(self, name: Any) -> str:
        """Return a valid experiment name for what the caller passed."""
        text = self._text("experiment", name, EXPERIMENT_NAME_CHARACTERS_MAX)
        if text is not None and text.strip():
            return text
        self._warn(
            "no experiment", f"no name of an experiment: {name!r:.100}; the run goes to Default"
        )
        return "Default"

    def _text(self, what: str, value: Any, chars_max: int = KEY_CHARACTERS_MAX) -> str | None:
        """Return a value as text that fits. Cut or leave out what does not, with a warning."""
        if value is None:
            return None
        try:
            text = as_text(value)
        except Exception as error:
            self._warn(
                what, f"{what}: cannot be converted to text, and is left out: {error!r:.200}"
            )
            return None
        if len(text) > chars_max:
            self._warn(what, f"{what}: cut to {chars_max} characters: {text[:50]!r}…")
        return text[:chars_max]

    @property
    def _heartbeat_ms(self) -> int:
        return round(self.settings.heartbeat_s * 1000)

    def _attach(self) -> None:
        self._process = process.current()
        channel = self._process.channel(self.settings)
        self._producer = Producer(self.run_id, channel, self._user, self.owner, self._subject)
        self._points = self._process.buffer.points
        self._append: Callable[[Any], None] = self._append_first

    def _append_first(self, point: Any) -> None:
        """Start what a process needs for its first log call. Later calls append directly."""
        self._process.open_runs[id(self)] = self
        self._process.start()
        if self.finished and not self.managed:
            self._warn("late", "logged after finish(); it will still be delivered")
        self._append = self._points.append
        self._append(point)

    def after_fork(self) -> None:
        """In the child of a fork, become a separate writer once something is logged."""
        self.owner = False
        self._system = None  # the parent's thread goes on
        self._attach()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the run so that another process can add to it, but never end it."""
        settings = self.settings._replace(token=None)
        return _unpickle, (self.run_id, settings, self._user)

    def __repr__(self) -> str:
        """Return for example ``<Run 'first' RUNNING 3f0c... at http://host:5000>``.

        Points that were dropped are counted in it.
        """
        from modeltrail.eventlog.address import without_secrets

        name = "" if self.name is None else f"{self.name!r} "
        dropped = self.points_dropped
        lost = f", {dropped:,} points dropped" if dropped else ""
        where = without_secrets(self.settings.url)
        return f"<Run {name}{self.status} {self.run_id} at {where}{lost}>"

    def _repr_html_(self) -> str:
        """Return the run for notebooks: status, metrics with their lines, a link to its page."""
        from modeltrail.producers.notebook import run_html

        return run_html(self)

    @property
    def points_dropped(self) -> int:
        """Metric points that could not be kept, or that the target refused."""
        self._producer.count_drops()
        return self._producer.points_dropped

    @property
    def others_dropped(self) -> int:
        """Params, tags, artifacts and other events that could not be kept, or were refused."""
        self._producer.count_drops()
        return self._producer.others_dropped

    def log(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metric values at the current time.

        Takes about a microsecond, without locks or I/O.

        If a process logs faster than its writer can keep up, about a million points a second on a
        free core, one call in ten thousand lets the writer run, for at most about 0.2 s. If a disk
        hangs, this happens once; after that, points are dropped and counted at once.

        Values are converted to float at once (a tensor on a GPU waits for the GPU). NaN and
        infinities are kept. Text and other values that are not numbers are dropped and counted.

        Args:
            metrics: Key (1 to 250 characters) to value.
            step: Default: the number of earlier calls without a step in this process.
        """
        try:
            at_ms = time.time_ns() // 1_000_000
            if step is None:
                step = next(self._steps)
            elif type(step) is not int or not -(2**63) <= step < 2**63:
                step = self._step(step, len(metrics))
                if step is None:
                    return
            producer, append, points = self._producer, self._append, self._points
            for key, value in metrics.items():
                if type(value) is not float:
                    try:
                        value = as_float(value)
                    except Exception as error:
                        self._drop("value", f"{key!r:.100} is not a number: {error!r:.200}")
                        continue
                if (
                    type(key) is not str
                    or not 0 < len(key) <= KEY_CHARACTERS_MAX
                    or not key.isascii()
                ):
                    if not is_key(key):
                        self._drop("key", f"not a metric key of 1 to 250 characters: {key!r:.100}")
                        continue
                    key = str(key)
                if len(points) >= POINTS_MAX and not self._process.make_room():
                    self._drop("full", "metric points arrive faster than they can be written")
                    continue
                append((producer, key, step, at_ms, value))
        except Exception as error:  # not a mapping, or it changes while being read
            self._drop("value", f"log() cannot read its argument: {error!r:.200}")

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Do the same as ``log``, under MLflow's name."""
        self.log(metrics, step)

    def log_metric(self, key: str, value: Any, step: int | None = None) -> None:
        """Log one metric value at the current time; see ``log``."""
        try:
            metrics = {key: value}
        except TypeError:  # not even hashable
            self._drop("key", f"not a metric key of 1 to 250 characters: {key!r:.100}")
            return
        self.log(metrics, step)

    def log_point(self, series: str | Series, value: float, step: int, timestamp_ms: int) -> None:
        """Log one point whose values are already checked, at the cost of ``log``.

        Args:
            series: Metric key (1 to 250 characters), alone or with what it belongs to.
            value: The value.
            step: The step, of 64 bits.
            timestamp_ms: The time, in ms since 1970 UTC.
        """
        if len(self._points) >= POINTS_MAX and not self._process.make_room():
            self._drop("full", "metric points arrive faster than they can be written")
        else:
            self._append((self._producer, series, step, timestamp_ms, value))

    def _step(self, step: Any, points: int) -> int | None:
        try:
            return as_step(step)
        except Exception as error:
            for _ in range(points):
                self._drop("step", f"{step!r:.100} is not a step: {error!r:.200}")
            return None

    def log_series(
        self,
        key: str,
        steps: Iterable[int],
        values: Iterable[Any],
        timestamps_ms: Iterable[int] | None = None,
    ) -> None:
        """Log many points of one metric. Lists and arrays take some ten nanoseconds a point.

        If more than about 300,000 points are waiting to be written, it waits too, for at most a
        second.

        Args:
            key: Metric key (1 to 250 characters).
            steps: A step for each value.
            values: The values.
            timestamps_ms: A time for each value, in ms since 1970 UTC; default: now for all.
        """
        try:
            from array import array

            numbers = _column("d", values, as_float)
            when = None if timestamps_ms is None else _column("q", timestamps_ms, as_step)
            where = _column("q", steps, as_step)
            if when is None:
                when = array("q", [_now_ms()]) * len(numbers)
            if not is_key(key):
                self._drop("key", f"not a metric key of 1 to 250 characters: {key!r:.100}")
                return
            if not len(where) == len(when) == len(numbers):
                self._drop("value", "log_series() was given columns of different lengths")
                return
        except Exception as error:
            self._drop("value", f"log_series() cannot read its arguments: {error!r:.200}")
            return
        deadline = time.monotonic() + _SERIES_WAIT_S
        for at in range(0, len(numbers), SERIES_CHUNK):
            part = slice(at, at + SERIES_CHUNK)
            points = SeriesPoints(str(key), where[part], when[part], numbers[part])
            size = 24 * len(points.values)
            while not self._put(points, size):
                if time.monotonic() > deadline:
                    for _ in points.values:
                        self._drop("full", "metric points arrive faster than they can be written")
                    break
                self._process.wake()
                time.sleep(0.001)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log params. Values are stored as text of at most 64 KiB.

        The first value of a param stays.
        """
        texts = self._texts(params, "param")
        if texts:
            self.record("ParamsLogged", {"params": texts}, sum(map(len, texts.values())))

    def log_param(self, key: str, value: Any) -> None:
        """Log one param; see ``log_params``."""
        try:
            self.log_params({key: value})
        except TypeError:  # not even hashable
            self._drop("text", f"not a param key of 1 to 250 characters: {key!r:.100}")

    def set_tag(self, key: str, value: Any) -> None:
        """Set one tag; see ``set_tags``."""
        try:
            self.set_tags({key: value})
        except TypeError:  # not even hashable
            self._drop("text", f"not a tag key of 1 to 250 characters: {key!r:.100}")

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags. Values are stored as text of at most 64 KiB."""
        texts = self._texts(tags, "tag")
        if texts:
            self.record("TagsChanged", {"tags": texts}, sum(map(len, texts.values())))

    def delete_tag(self, key: str) -> None:
        """Delete a tag."""
        if is_key(key):
            self.record("TagsChanged", {"tags": {str(key): None}})
        else:
            self._drop("text", f"not a tag key of 1 to 250 characters: {key!r:.100}")

    def log_dataset(
        self,
        name: str,
        data: Any = None,
        *,
        digest: str | None = None,
        source: str | None = None,
        source_type: str | None = None,
        schema: str | None = None,
        profile: str | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a dataset that the run used.

        Args:
            name: Name of the dataset.
            data: A path, an array or a data frame; its digest is computed in this thread.
            digest: The digest, if it is known.
            source: Where the data came from; default: the path.
            source_type: Kind of source, such as ``s3``; default: ``local`` for a path, else
                ``code``.
            schema: JSON description of the columns.
            profile: JSON summary.
            tags: Tags of this use, such as ``{"context": "training"}``.
        """
        try:
            if digest is None:
                from modeltrail.producers.digests import digest_of

                digest = digest_of(data)
            is_path = isinstance(data, str | os.PathLike)
            dataset = {
                "name": as_text(name),
                "digest": as_text(digest),
                "source_type": as_text(source_type or ("local" if is_path else "code")),
                "source": as_text(source or (os.path.abspath(data) if is_path else name)),
                "schema": None if schema is None else as_text(schema),
                "profile": None if profile is None else as_text(profile),
                "tags": self._texts(tags, "tag"),
            }
        except Exception as error:
            self._drop("text", f"dataset {name!r:.100} cannot be logged: {error!r:.200}")
            return
        self.record("DatasetsLogged", {"datasets": [dataset]}, len(schema or profile or ""))

    def log_artifact(self, path: str | os.PathLike[str], artifact_path: str | None = None) -> None:
        """Store a file with the run. The file is copied to the outbox now and uploaded later.

        Args:
            path: The file, or a folder (see ``log_artifacts``).
            artifact_path: Folder within the run's artifacts.
        """
        try:
            if os.path.isdir(path):
                self.log_artifacts(path, artifact_path)
                return
            name = os.path.basename(os.fspath(path))
            self._spool(path, f"{artifact_path}/{name}" if artifact_path else name)
        except Exception as error:
            self._drop("text", f"artifact {path!r:.200} cannot be kept: {error!r:.200}")

    def log_artifacts(
        self, folder: str | os.PathLike[str], artifact_path: str | None = None
    ) -> None:
        """Store all files of a folder with the run, under their relative paths."""
        try:
            for parent, folders, files in os.walk(folder, onerror=_raise):
                folders.sort()
                below = os.path.relpath(parent, folder)
                prefix = [p for p in (artifact_path, "" if below == "." else below) if p]
                for name in sorted(files):
                    try:
                        self._spool(os.path.join(parent, name), "/".join([*prefix, name]))
                    except Exception as error:
                        self._drop("text", f"artifact {name!r:.200} cannot be kept: {error!r:.200}")
        except Exception as error:
            self._drop("text", f"artifacts in {folder!r:.200} cannot be kept: {error!r:.200}")

    def _spool(self, path: str | os.PathLike[str], to: str) -> None:
        to = artifact_name(to)
        self._process.start()
        spooled = self._producer.channel.spool(os.fspath(path))
        self._hand_over("artifact", ArtifactOrder(to, spooled))

    def register_model(
        self,
        name: str,
        source: str,
        *,
        description: str | None = None,
        tags: Mapping[str, Any] | None = None,
        aliases: Iterable[str] = (),
    ) -> None:
        """Request a model version made from this run. A server assigns its number later.

        Args:
            name: The registered model; it is created if it does not exist.
            source: URI of the model's files, or a path within the run's artifacts.
            description: Description of the version.
            tags: Tags of the version.
            aliases: Aliases to point at the version.
        """
        try:
            fields = {
                "model": as_text(name),
                "source": as_text(source),
                "description": None if description is None else as_text(description),
                "tags": self._texts(tags, "tag"),
                "aliases": [as_text(alias) for alias in aliases],
            }
        except Exception as error:
            self._drop("text", f"register_model() cannot read its arguments: {error!r:.200}")
            return
        self.record("ModelRegistrationRequested", fields, len(description or ""))

    def finish(
        self, status: str = "FINISHED", message: str | None = None, timeout_s: float | None = None
    ) -> bool:
        """End the run and wait until everything is delivered. A second call only waits.

        In a forked or unpickled copy, the run continues, and only what the copy logged is flushed.

        Args:
            status: FINISHED, FAILED or KILLED.
            message: The reason for a failure.
            timeout_s: Maximum wait, in seconds; default ``MODELTRAIL_FINISH_TIMEOUT_S``, else 5 s,
                minus the time that this process has already waited in vain. What is not delivered
                by then is delivered in the background while the process lives, or else by
                ``modeltrail sync``.

        Returns:
            True if everything was delivered and nothing refused.
        """
        self.end(status, message)
        return self.flush(timeout_s)

    def end(
        self, status: str, message: str | None = None, *, ended_at_ms: int | None = None
    ) -> None:
        """End the run like ``finish``, but do not wait."""
        if self.finished:
            return
        self.finished = True
        if self._system is not None:
            self._system.stop()
        _active.set(tuple(run for run in _active.get() if run is not self))
        if self.owner:
            known = as_text(status).upper()
            if known not in RUN_ENDED:
                self._drop("text", f"no such status: {status!r:.100}; using FINISHED")
                known = "FINISHED"
            fields = {
                "status": known,
                "ended_at_ms": _now_ms() if ended_at_ms is None else ended_at_ms,
                "message": None if message is None else as_text(message)[:_MESSAGE_CHARS_MAX],
            }
            self.status = known
            self.record("RunEnded", fields, force=True)
        elif id(self) in self._process.open_runs:
            self.record("Heartbeat", {})  # contains the counts of this process
        self._append = self._append_first

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything logged so far is delivered. Returns whether it was.

        Args:
            timeout_s: Maximum wait; default as for ``finish``.
        """
        mark = self.mark()
        if mark is None:
            return True
        self._process.wait_delivered([(self, mark)], timeout_s)
        return self.delivered(mark) and self.channel.refused(self.run_id)[0] == 0

    @property
    def channel(self) -> Channel:
        """The channel from this process to the run's target."""
        return self._producer.channel

    def mark(self) -> Mark | None:
        """Ask the writer to report when everything logged so far is in the outbox.

        Returns None if nothing was logged since the last complete delivery.
        """
        if id(self) not in self._process.open_runs:
            return None
        mark = Mark()
        self._put(mark, force=True)
        self._process.wake()
        return mark

    def delivered(self, mark: Mark) -> bool:
        """Return whether everything up to the mark was delivered, or refused and set aside."""
        if mark.appended is None or not self._producer.channel.handled(mark.appended):
            return False
        if self.finished:
            self._process.open_runs.pop(id(self), None)
        return True

    @property
    def stuck(self) -> bool:
        """Return whether delivery is stopped, because the log or a setting is missing."""
        return self._producer.channel.stuck

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the run: FAILED after an exception, KILLED after Ctrl-C.

        Does not suppress exceptions.
        """
        if not self.finished:
            self.finish(*process.outcome(error))

    def _texts(self, texts: Mapping[str, Any] | None, kind: str) -> dict[str, str]:
        """Return keys and values as text, without those that cannot be converted."""
        clean: dict[str, str] = {}
        try:
            for key, value in (texts or {}).items():
                try:
                    text = as_text(value)
                except Exception as error:
                    self._drop(
                        "text", f"{kind} {key!r:.100} cannot be converted to text: {error!r:.200}"
                    )
                    continue
                if not is_key(key):
                    self._drop("text", f"not a {kind} key of 1 to 250 characters: {key!r:.100}")
                elif is_too_long(text):
                    self._drop("text", f"{kind} {key!r:.100} has more than 64 KiB")
                else:
                    clean[str(key)] = text
        except Exception as error:
            self._drop("text", f"{kind}s that cannot be read: {error!r:.200}")
        return clean

    def _put(
        self,
        what: Event | SeriesPoints | ArtifactOrder | Mark,
        size: int = 0,
        *,
        force: bool = False,
    ) -> bool:
        self._process.open_runs[id(self)] = self
        entry = Entry(self._producer, what, _now_ms())
        if force:
            self._process.buffer.entries.append(entry)
        elif not self._process.buffer.put(entry, size):
            return False
        self._process.start()
        return True

    def record(self, type: str, fields: Any, size: int = 0, *, force: bool = False) -> None:
        """Append an event made by the caller. Never raises.

        Args:
            type: Event type.
            fields: Its fields, without the envelope and the id.
            size: Approximate number of characters in it, if it may be large.
            force: Append it even if the buffer is full.
        """
        self._hand_over(type, Event(type, fields), size, force=force)

    def _hand_over(
        self, name: str, what: Event | ArtifactOrder, size: int = 0, *, force: bool = False
    ) -> None:
        """Put something into the buffer, or count that it is lost. Never raises."""
        try:
            if not self._put(what, size, force=force):
                self._drop("text", f"{name} is lost: events arrive faster than they can be written")
        except Exception as error:  # for example, no more threads can be started
            self._drop("text", f"{name} is lost: {error!r:.200}")

    def _drop(self, reason: str, what: str) -> None:
        self._process.lossy[id(self._producer)] = self._producer
        if self._producer.drops[reason].add() == 0:
            self._warn(reason, f"dropped and counted (one warning for each kind): {what}")

    def _warn(self, kind: str, what: str) -> None:
        if kind not in self._producer.warned:
            self._producer.warned.add(kind)
            self._process.buffer.put(Entry(self._producer, Notice(what), 0))


def _unpickle(run_id: str, settings: Settings, user: str | None) -> Run:
    token = os.environ.get("MODELTRAIL_TOKEN") or None
    return Run(run_id, settings._replace(token=token), user=user, owner=False)


def new_run_id() -> str:
    """Return a new run id: 32 random hexadecimal digits."""
    return os.urandom(16).hex()


def _is_run_id(text: Any) -> bool:
    return (
        isinstance(text, str)
        and 0 < len(text) <= ID_CHARACTERS_MAX
        and text.isascii()
        and text.strip(".") != ""
        and all(c.isalnum() or c in "._-" for c in text)
    )


def _now_ms() -> int:
    # Not that of the schemas: with them comes fastavro, whose import takes most of the time.
    return time.time_ns() // 1_000_000


def _column(kind: str, items: Iterable[Any], convert: Callable[[Any], Any]) -> Any:
    """Return a copy of the items as an array, at C speed for plain numbers."""
    from array import array

    to_list = getattr(items, "tolist", None)
    plain = to_list() if callable(to_list) else list(items)
    try:
        if not any(type(item) is str for item in plain):
            return array(kind, plain)
    except (TypeError, OverflowError):
        pass
    return array(kind, [convert(item) for item in plain])


def _raise(error: OSError) -> None:
    raise error
