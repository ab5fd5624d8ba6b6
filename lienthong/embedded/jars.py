"""Jars from Maven Central, downloaded once for each user of this machine; afterwards no network is needed."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from tenacity import Retrying, stop_after_attempt, wait_exponential

from lienthong.errors import ConfigError, TransientError

KAFKA = ("org.apache.kafka:kafka_2.13:4.1.0", "org.apache.kafka:kafka-tools:4.1.0", "org.slf4j:slf4j-simple:1.7.36")
DOWNLOADS_AT_ONCE = 8
DOWNLOAD_TIMEOUT_SECONDS = 60
DOWNLOAD_ATTEMPTS = 3
NOT_INSTALLED = "the embedded Kafka is not installed: pip install 'lienthong[embedded]'"

logger = logging.getLogger(__name__)


def jars(name: str = "kafka", coordinates: Sequence[str] = KAFKA, without: tuple[str, ...] = ()) -> Path:
    """The folder with the jars of some coordinates and all they need, but of no group in `without`; downloaded once.

    Raises TransientError when they cannot be downloaded, ConfigError when the downloader is not installed.
    """
    key = sha256("+".join([*coordinates, *without]).encode()).hexdigest()[:12]
    folder = cache_folder() / f"{name}-{key}"
    if not folder.exists():
        _download(folder, coordinates, without)
    return folder


def cache_folder() -> Path:
    """Where this user keeps what can be made or downloaded again."""
    from platformdirs import user_cache_path

    return user_cache_path("lienthong")


@contextmanager
def locked(work: str) -> Iterator[None]:
    """Do this work in one process at a time; the others wait."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / f"{work}.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        yield


def _download(folder: Path, coordinates: Sequence[str], without: tuple[str, ...]) -> None:
    """Fill the folder, which appears only when it is complete; a second process waits for the first."""
    with locked("download"):
        if folder.exists():
            return
        logger.info("downloading jars, once", extra={"action": "download_jars", "folder": str(folder)})
        with TemporaryDirectory(prefix="download-", dir=folder.parent) as scratch:
            draft = Path(scratch, "jars")
            draft.mkdir()
            for file in _fetch(Path(scratch, "maven"), coordinates, without):
                shutil.move(file, draft / file.name)
            draft.rename(folder)


def _fetch(repository: Path, coordinates: Sequence[str], without: tuple[str, ...]) -> list[Path]:
    """Resolve the coordinates and download the jars, with a few tries, because public networks hiccup."""
    try:
        from jgo.maven import MavenContext
    except ImportError as error:
        raise ConfigError(NOT_INSTALLED) from error
    maven = MavenContext(repo_cache=repository, timeout=DOWNLOAD_TIMEOUT_SECONDS)

    def attempt() -> list[Path]:
        given, implied = maven.resolver.resolve([maven.create_dependency(coordinate) for coordinate in coordinates])
        artifacts = [found.artifact for found in (*given, *implied) if found.scope in {None, "compile", "runtime"}]
        wanted = [found for found in artifacts if not found.groupId.startswith(without)]
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            return [Path(file) for file in pool.map(lambda artifact: artifact.resolve(), wanted)]

    tries = Retrying(stop=stop_after_attempt(DOWNLOAD_ATTEMPTS), wait=wait_exponential(), reraise=True)
    try:
        return tries(attempt)
    except (OSError, RuntimeError, ValueError) as error:
        raise TransientError(f"{coordinates[0]} and its jars could not be downloaded (needed once; check the network): {error}") from error
