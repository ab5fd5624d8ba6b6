"""The compose files as values: what a container engine would run, with the variables filled in, and the same on this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
ONE, MANY = DOCKER / "compose.yaml", DOCKER / "compose.scale.yaml"
BIN = Path(sys.executable).parent
_VARIABLE = re.compile(r"\$(?:\$|\{([A-Z_]+):-([^}]*)\})")


@cache
def compose(file: Path) -> dict[str, Any]:
    """A compose file as it stands, with its anchors and merges resolved."""
    return dict(YAML(typ="safe").load(file.read_text("utf-8")))


def filled(value: Any) -> str:
    """A text with its variables filled in as an engine without an environment does: their defaults, and `$$` is `$`."""
    return _VARIABLE.sub(lambda found: "$" if found[0] == "$$" else found[2], str(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What one service of the one-machine file is, ready to run."""

    name: str
    command: tuple[str, ...]
    check: tuple[str, ...]
    environment: dict[str, str]
    secrets: tuple[str, ...]


def dockerfile(target: str) -> list[list[str]]:
    """The instructions of one stage of the Dockerfile, as words."""
    text = (DOCKER / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    stages = re.split(r"^(?=FROM )", text, flags=re.M)[1:]
    found = next(stage for stage in stages if stage.splitlines()[0].split()[-1] == target)
    return [line.split(maxsplit=1) for line in found.splitlines() if line.strip() and not line.startswith("#")]


def entrypoint(image: str) -> list[str]:
    """What an image of ours puts before the command; the official Airflow image runs `airflow` with what it does not know itself."""
    if "/service" in image:
        return [str(word) for word in YAML(typ="safe").load(dict(map(tuple, dockerfile("service")))["ENTRYPOINT"])]
    return ["airflow"]


def service(name: str) -> Service:
    """A service of compose.yaml whose image is ours."""
    found = compose(ONE)["services"][name]
    command = [filled(word) for word in found["command"]]
    if command[0] not in {"bash", "celery"}:
        command = [*entrypoint(filled(found["image"])), *command]
    check = [filled(word) for word in found.get("healthcheck", {}).get("test", [])]
    assert not check or check[0] == "CMD", f"{name}: the health check goes through a shell"
    return Service(
        name=name,
        command=tuple(command),
        check=tuple(check[1:]),
        environment={key: filled(value) for key, value in found["environment"].items()},
        secrets=tuple(found["secrets"]),
    )


@dataclass(slots=True)
class Host:
    """This machine in place of an engine: container paths, names and ports become folders, addresses and free ports of here."""

    folder: Path
    texts: dict[str, str] = field(default_factory=dict)
    """What stands in the compose file or in a mounted file: what it is here. Longest first."""
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("secrets", "etc"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.texts |= {"/run/secrets": str(self.folder / "secrets"), "/etc/lienthong": str(self.folder / "etc")}

    def here(self, text: str) -> str:
        """A text of the compose file as it reads on this machine."""
        for there in sorted(self.texts, key=len, reverse=True):
            text = text.replace(there, self.texts[there])
        return text

    def mount(self, folder: Path) -> None:
        """The files of a mounted folder, in place of /etc/lienthong."""
        for file in folder.glob("*.yaml"):
            (self.folder / "etc" / file.name).write_text(self.here(file.read_text("utf-8")), "utf-8")

    def secret(self, name: str, text: str) -> None:
        """A mounted secret."""
        (self.folder / "secrets" / name).write_text(text, "utf-8")

    def environment(self, made: Service, more: Mapping[str, str] = {}) -> dict[str, str]:
        """The environment of a container, with the commands of our virtual environment and a temporary folder of its own."""
        own = self.folder / "tmp" / made.name
        own.mkdir(parents=True, exist_ok=True)
        mapped = {key: self.here(value) for key, value in made.environment.items()}
        kept = {name: os.environ[name] for name in ("HOME", "PYTHONPATH") if name in os.environ}
        return {**kept, "PATH": f"{BIN}:{os.environ['PATH']}", "TMPDIR": str(own), **mapped, **more}

    def start(self, made: Service, more: Mapping[str, str] = {}) -> subprocess.Popen[bytes]:
        """Start a service's exact command as a process of this machine."""
        with (self.folder / f"{made.name}.log").open("ab") as log:
            self.running[made.name] = subprocess.Popen(
                self._words(made.command),
                env=self.environment(made, more),
                cwd=self.folder / "tmp" / made.name,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.running[made.name]

    def run(self, made: Service, more: Mapping[str, str] = {}, *words: str) -> str:
        """Run a service's exact command, or another one in its place, to its end; what it says."""
        done = subprocess.run(
            self._words(words or made.command),
            env=self.environment(made, more),
            cwd=self.folder / "tmp" / made.name,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def check(self, made: Service, more: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
        """Run a service's exact health check."""
        return subprocess.run(
            self._words(made.check),
            env=self.environment(made, more),
            cwd=self.folder / "tmp" / made.name,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _words(self, words: tuple[str, ...]) -> list[str]:
        program = shutil.which(words[0], path=f"{BIN}:{os.environ['PATH']}")
        assert program, f"there is no program {words[0]} here"
        return [program, *(self.here(word) for word in words[1:])]

    def log(self, name: str) -> str:
        """What a service has said."""
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")
