"""A real Apache Kafka broker for tests and benchmarks: KRaft mode, one node, loopback only.

Its jars come from Maven Central once, into ``.cache/kafka-<version>/``. Use it as::

    with KafkaBroker(folder) as broker:
        log = open_log(broker.url("team-"))
        broker.kill()                       # SIGKILL
        broker.start()                      # same ports, same data
"""

from __future__ import annotations

import base64
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

VERSION = "4.4.0"
CACHE = Path(__file__).resolve().parents[2] / ".cache" / f"kafka-{VERSION}"

# kafka-tools-api is named by the broker's pom, but is not needed to run one, and was not
# published for every release.
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>modeltrail.tests</groupId><artifactId>kafka-broker</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version>
      <exclusions>
        <exclusion>
          <groupId>org.apache.kafka</groupId><artifactId>kafka-tools-api</artifactId>
        </exclusion>
      </exclusions>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""


class KafkaMissing(Exception):
    """No broker can be had on this machine; the message says why."""


def jars() -> Path:
    """The folder with the broker's jars; fetched if they are not there yet."""
    if not shutil.which("java"):
        raise KafkaMissing("no `java` on the PATH (Java 17 or newer is needed)")
    done = CACHE / "jars"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once must not fetch into one folder
        if done.is_dir():
            return done
        if not shutil.which("mvn"):
            raise KafkaMissing("no `mvn` on the PATH (Maven fetches the broker's jars)")
        (CACHE / "pom.xml").write_text(_POM)
        half = CACHE / "half"
        shutil.rmtree(half, ignore_errors=True)
        ran = subprocess.run(
            [
                *("mvn", "-q", "-B", "-f", str(CACHE / "pom.xml"), "dependency:copy-dependencies"),
                *("-DincludeScope=runtime", f"-DoutputDirectory={half}"),
            ],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if ran.returncode != 0:
            raise KafkaMissing(f"Maven could not fetch the broker's jars:\n{ran.stdout[-2000:]}")
        half.rename(done)
    return done


def free_port() -> int:
    """A free loopback port below the range that outgoing connections use.

    A broker that was killed must get its port back, so no client may have been given it.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class KafkaBroker:
    """One Kafka node, broker and controller in one process.

    Args:
        folder: For its data, settings and output (``broker.log``); must not exist or be empty.
        settings: Broker properties that add to or replace those chosen here.
        heap_mb: Java heap.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, str] | None = None, heap_mb: int = 512
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        controller = free_port()
        self._properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(folder / "data"),
            "num.partitions": "4",
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            # A killed broker may come back only after its session; 9 s are too long for tests.
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "500",
        } | {
            k: v.format(broker=self.bootstrap, controller=f"127.0.0.1:{controller}")
            for k, v in (settings or {}).items()
        }
        self._java = ["java", "-Xms64m", f"-Xmx{heap_mb}m", "-XX:+UseSerialGC"]
        # Most live for seconds only: code that is compiled once, and fast, halves their start.
        self._java += ["-XX:TieredStopAtLevel=1"]
        self._java += ["-Dorg.slf4j.simpleLogger.showDateTime=true"]
        self._java += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{jars()}/*"]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running broker."""
        assert self._process is not None, "the broker is not running"
        return self._process.pid

    def url(self, prefix: str, options: str = "") -> str:
        """The URL of a Modeltrail log on this broker, whose topics begin with ``prefix``."""
        return f"kafka://{self.bootstrap}/{prefix}" + (f"?{options}" if options else "")

    def start(self, timeout_s: float = 90.0) -> None:
        """Start, or start again on the same ports and data; returns when it takes requests."""
        assert self._process is None, "the broker is running already"
        settings = self.folder / "server.properties"
        if not settings.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            settings.write_text("".join(f"{k}={v}\n" for k, v in self._properties.items()))
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            subprocess.run(
                [
                    *(*self._java, "kafka.tools.StorageTool", "format"),
                    # In one word: an id may begin with "-", and would be taken for an option.
                    *(f"--cluster-id={cluster}", "-c", str(settings)),
                ],
                check=True,
                capture_output=True,
            )
        with (self.folder / "broker.log").open("ab") as output:
            self._process = subprocess.Popen(
                [*self._java, "kafka.Kafka", str(settings)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C for the tests is not one for the broker
            )
        until = time.monotonic() + timeout_s
        # The listener for clients opens only after the broker has caught up and is unfenced.
        while True:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self._process.poll() is not None or time.monotonic() > until:
                tail = (self.folder / "broker.log").read_text(errors="replace")[-3000:]
                self.kill()
                raise RuntimeError(f"Kafka did not start within {timeout_s:.0f} s:\n{tail}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop in good order (SIGTERM), or by force after 30 s. Does nothing if not running."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End it at once (SIGKILL). Does nothing if not running."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Stop and start again, on the same ports and data."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop its clock (SIGSTOP): connections stay open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after ``freeze``."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> KafkaBroker:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()  # its data is thrown away: no need to stop in good order


def main() -> None:
    """Run a broker until Ctrl-C, for trying things by hand."""
    folder = Path(tempfile.mkdtemp(prefix="modeltrail-kafka-"))
    try:
        with KafkaBroker(folder) as broker:
            print(f"{broker.bootstrap} (process {broker.pid}); Ctrl-C ends it", flush=True)  # noqa: T201
            signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
