"""The Dockerfile: pinned bases, no root, no secret, health checks, and nothing named that is not there."""

from __future__ import annotations

import re
import subprocess
from fnmatch import fnmatch

import pytest

from lienthong import __version__
from tests.compose_kit import BIN, DOCKER, ROOT, dockerfile

TEXT = (DOCKER / "Dockerfile").read_text("utf-8")
TARGETS = ("service", "airflow")
EXACT = re.compile(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(-[\w.-]+)?(@sha256:[0-9a-f]{64})?")


def test_the_linter_has_nothing_to_say() -> None:
    done = subprocess.run([str(BIN / "hadolint"), str(DOCKER / "Dockerfile")], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_bases_have_exact_versions() -> None:
    bases = re.findall(r"^FROM (\S+)", TEXT, flags=re.M)
    assert len(bases) == 3
    assert [base for base in bases if not EXACT.fullmatch(base)] == []
    assert [base for base in bases if base.startswith("python:") and "@sha256:" not in base] == []


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_has_labels_a_health_check_and_a_numeric_user_who_is_not_root(target: str) -> None:
    instructions = [(words[0], words[1]) for words in dockerfile(target)]
    labels = " ".join(rest for word, rest in instructions if word == "LABEL")
    for label in ("title", "description", "version", "revision", "licenses"):
        assert f"org.opencontainers.image.{label}=" in labels
    users = [rest for word, rest in instructions if word == "USER"]
    assert re.fullmatch(r"[1-9]\d*:0", users[-1])
    assert sum(word == "HEALTHCHECK" for word, _ in instructions) == 1
    assert f"VERSION={__version__}" in [rest for word, rest in instructions if word == "ARG"]


def test_no_secret_is_built_in() -> None:
    named = re.findall(r"^(?:ENV|ARG)\s+(.*)$", TEXT.replace("\\\n", " "), flags=re.M)
    assert [line for line in named if re.search(r"password|secret|token|_key|dsn", line, flags=re.I)] == []


def test_everything_that_is_copied_is_there_and_reaches_the_builder() -> None:
    ignored = [line for line in (DOCKER / "Dockerfile.dockerignore").read_text("utf-8").splitlines() if line and not line.startswith("#")]
    kept = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    sources = [word for line in re.findall(r"^COPY (?!--from)(.+)$", TEXT, flags=re.M) for word in line.split()[:-1]]
    assert len(sources) > 5
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [source for source in sources if not any(fnmatch(source, pattern) for pattern in kept)] == []
