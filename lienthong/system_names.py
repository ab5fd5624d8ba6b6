"""Where the configuration is, and the names of its systems, for whoever needs no more than that."""

from __future__ import annotations

import os
from pathlib import Path

from lienthong.config_files import read_document
from lienthong.errors import ConfigError

CONFIG_NAME = "LIENTHONG_CONFIG"


def config_folder() -> Path:
    """The folder that the environment names; `config` where it names none."""
    return Path(os.environ.get(CONFIG_NAME, "config"))


def system_names() -> list[str]:
    """The systems of systems.yaml in its order, for a form; none where it cannot be read. Nothing is checked and nobody is connected to."""
    try:
        found = read_document(config_folder() / "systems.yaml", "systems.yaml").at(("systems",))
    except ConfigError:
        return []
    return [str(name) for name in found] if isinstance(found, dict) else []
