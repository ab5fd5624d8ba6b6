"""The peer's programs from Maven Central, without Maven: jars with all they need, and archives to unpack."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from jgo.maven import Artifact, Dependency, MavenContext

FETCHES_AT_ONCE = 8
TIMEOUT_SECONDS = 60
RUNTIME_SCOPES = (None, "compile", "runtime")


@dataclass(frozen=True, slots=True)
class Coordinates:
    """What names an artifact in a Maven repository."""

    group: str
    name: str
    version: str
    classifier: str = ""
    packaging: str = "jar"

    def __str__(self) -> str:
        """How it is written in Maven's own tools."""
        return ":".join(part for part in (self.group, self.name, self.version, self.classifier) if part)


class Jars:
    """A folder of artifacts; what is there already is not fetched again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._maven = MavenContext(repo_cache=folder / "maven", timeout=TIMEOUT_SECONDS)

    def resolve(self, wanted: Iterable[Coordinates]) -> list[Path]:
        """The jars of these artifacts and of everything they need at run time."""
        inputs = [Dependency(self._artifact(one)) for one in wanted]
        found = self._maven.resolver.resolve(inputs)
        artifacts = [needed.artifact for part in found for needed in part if needed.scope in RUNTIME_SCOPES]
        with ThreadPoolExecutor(FETCHES_AT_ONCE) as pool:
            return list(pool.map(_whole_jar, artifacts))

    def unpack(self, archive: Coordinates) -> Path:
        """The folder with the contents of a tar.gz artifact."""
        unpacked = self._folder / "unpacked" / f"{archive.name}-{archive.version}"
        if not unpacked.exists():
            unpacked.parent.mkdir(parents=True, exist_ok=True)
            _unpack(self._artifact(archive).resolve(), unpacked)
        return unpacked

    def _artifact(self, wanted: Coordinates) -> Artifact:
        component = self._maven.project(wanted.group, wanted.name).at_version(wanted.version)
        return component.artifact(wanted.classifier, wanted.packaging)


def _whole_jar(artifact: Artifact) -> Path:
    """The file of a jar. One that an interrupted download left cut short is fetched again, once."""
    path = artifact.resolve()
    if zipfile.is_zipfile(path):
        return path
    path.unlink()
    path = artifact.resolve()
    if not zipfile.is_zipfile(path):
        raise OSError(f"{path.name} arrives broken from the repository; try again later")
    return path


def _unpack(archive: Path, target: Path) -> None:
    """Unpack beside the target and rename, so that a target that exists is whole; the archive is then not kept."""
    beside = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        with tarfile.open(archive) as opened:
            opened.extractall(beside, filter="data")
        beside.rename(target)
    finally:  # a broken archive would otherwise be found again
        archive.unlink(missing_ok=True)
        shutil.rmtree(beside, ignore_errors=True)
