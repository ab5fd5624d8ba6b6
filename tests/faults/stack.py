"""Real servers and the service's roles as operating-system processes, for faults: start, break, go on, stop."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

from lienthong.embedded import Stack
from lienthong.embedded.ports import free_port
from tests.city import City, wait
from tests.faults import city_files, load
from tests.faults.oracle import Oracle, Verdict
from tests.faults.proxy import Toxiproxy
from tests.faults.words import SYSTEMS

ROLES = ("capture", "merge-1", "merge-2", "route", "apply")
HERE = Path(__file__).parent
CLEAN_SECONDS = 90.0
CODE = re.compile(r"\b[PDRW][-\w]*\.[a-z]{4}\.\d{5}|\b[PDRW]-[-\w]+")
SETTLE_SECONDS = 0.7
CLUSTERS = {"portal": "central", "ward_a": "ward", "ward_b": "ward"}


class FaultCity(City):
    """The faults' city: three systems on two clusters, the hub on a third, one broker, every role a process of its own."""

    def __init__(self, stack: Stack, folder: Path, seed: str) -> None:
        super().__init__(stack, folder)
        self.random = Random(seed)
        self.seed = seed
        self.roles: dict[str, subprocess.Popen[bytes]] = {}
        self.role_environment: dict[str, dict[str, str]] = {}
        self.metrics_ports: dict[str, int] = {}  # of the roles that serve metrics
        self.proxy = Toxiproxy.start(folder)
        self._load: subprocess.Popen[str] | None = None
        self._loads = 0
        self.oracle: Oracle

    # ------------------------------------------------------------ set-up
    def set_up(self) -> None:
        """Tables, configuration, our schema everywhere, the witnesses."""
        for name, cluster in CLUSTERS.items():
            tables = city_files.PORTAL if name == "portal" else city_files.WARD + (city_files.WARD_STEPS if name == "ward_a" else "")
            self.database(cluster, name, tables)
        for name, text in city_files.PROFILES.items():
            self.write(f"profiles/{name}.yaml", text)
        self.write("systems.yaml", city_files.SYSTEMS)
        self.write("authority.yaml", city_files.AUTHORITY)
        self.write("contracts.yaml", city_files.CONTRACTS)
        self.install(*SYSTEMS)
        self.oracle = Oracle({s: self.environment[_variable(s)] for s in SYSTEMS}, self.environment["HUB_DSN"])
        self.oracle.install()

    def begin(self) -> None:
        """Start every role and load every (still empty) system, so that deliveries begin."""
        self.metrics_ports["serve"] = free_port()
        self.role_environment["serve"] = {"LIENTHONG_PORT": str(self.metrics_ports["serve"])}
        for role in (*ROLES, "serve"):
            self.start_role(role)
        for system in SYSTEMS:
            done = self.cli("load", system)
            assert done.returncode == 0, done.stderr

    # ------------------------------------------------------------ roles
    def start_role(self, role: str) -> None:
        """Start one role, through the proxies and with failpoints ready."""
        environment = {
            **self.environment, **self.proxied(), "LIENTHONG_DEBUG": "1", "FAULT_FILE": str(self.fault_file(role)),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE / "inject"), self.environment.get("PYTHONPATH", "")])),
            **self.role_environment.get(role, {}),
        }  # fmt: skip
        words = [sys.executable, "-m", "lienthong", "run", role.partition("-")[0]]
        with (self.folder / f"{role}.log").open("ab") as log:
            self.roles[role] = subprocess.Popen(
                words, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )

    def proxied(self) -> dict[str, str]:
        """The addresses of the databases as the service has them: through the fault injector where there is one."""
        if self.proxy is None:
            return {}
        names = [("HUB_DSN", "hub"), *((f"{name.upper()}_DSN", cluster) for name, cluster in CLUSTERS.items())]
        out = {}
        for variable, cluster in names:
            server = self.stack.postgres[cluster]
            out[variable] = self.environment[variable].replace(f":{server.port}/", f":{self.proxy.port(cluster, server.port)}/")
        return out

    def kill_role(self, role: str, *, restart: bool = True) -> None:
        """SIGKILL, and start again as a supervisor would."""
        process = self.roles.pop(role)
        process.kill()
        process.wait()
        if restart:
            self.start_role(role)

    def watch(self) -> int:
        """Start again what has ended by itself; how many."""
        ended = [role for role, process in self.roles.items() if process.poll() is not None]
        for role in ended:
            self.start_role(role)
        return len(ended)

    def fault_file(self, role: str) -> Path:
        """Where a role's failpoint is set."""
        return self.folder / f"{role}.fault"

    def failpoint(self, role: str, point: str, when: str, n: int, action: str = "kill") -> None:
        """Arm one failpoint."""
        draft = self.fault_file(role).with_suffix(".draft")
        draft.write_text(f"{point} {when} {n} {action}")
        draft.rename(self.fault_file(role))

    def hit(self, role: str, seconds: float = 15.0) -> bool:
        """Wait until the armed failpoint was hit, and forget it; False when it was not."""
        file = self.fault_file(role).with_suffix(".fault.hit")
        until = time.monotonic() + seconds
        while not file.exists() and time.monotonic() < until:
            time.sleep(0.01)
        found = file.exists()
        file.unlink(missing_ok=True)
        if not found:
            self.fault_file(role).unlink(missing_ok=True)
        return found

    def let_go(self, role: str) -> None:
        """Let a role go on that waits at its failpoint."""
        self.fault_file(role).unlink(missing_ok=True)

    # ------------------------------------------------------------ load
    @contextmanager
    def living(self, rate: float = 40.0, rollbacks: float = 0.08) -> Iterator[None]:
        """Applications at work in every system for as long as the block lasts."""
        self.start_load(rate, rollbacks)
        try:
            yield
        finally:
            self.stop_load()

    def start_load(self, rate: float = 40.0, rollbacks: float = 0.08) -> None:
        """Let the applications work."""
        self._loads += 1
        command = [sys.executable, str(HERE / "load.py"), f"{self.seed}-{self._loads}", str(rate), str(rollbacks)]
        self._load = subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def stop_load(self) -> dict[str, int]:
        """End the applications; what they have committed."""
        process, self._load = self._load, None
        if process is None:
            return {}
        process.terminate()
        said, _ = process.communicate(timeout=30)
        found: dict[str, int] = json.loads(said)
        return found

    # ------------------------------------------------------------ judgement
    def clean(self, seconds: float = CLEAN_SECONDS, parked: int | None = None) -> tuple[Verdict, float]:
        """Wait until the oracle finds nothing wrong, and still nothing a moment later; the last verdict, and how long it took.

        With `parked`, wait also until so many new records are parked: some leave by themselves when what they waited for has come.
        """
        begun = time.monotonic()
        while True:
            self.watch()
            verdict = self.oracle.judge()
            took = time.monotonic() - begun
            if verdict.right and parked in (None, verdict.parked.total()):
                time.sleep(SETTLE_SECONDS)
                again = self.oracle.judge()
                if again.right and parked in (None, again.parked.total()):
                    return again, took
            if took > seconds:
                return verdict, took
            time.sleep(0.3)

    def expect(self, true: Callable[[], bool], story: str, seconds: float = 30.0) -> None:
        """Wait for something."""
        wait(true, seconds, lambda: story)

    def hub(self, statement: str, arguments: Any = None) -> list[tuple[Any, ...]]:
        """Ask the hub."""
        return self.sql("hub", statement, arguments=arguments)

    def story(self) -> str:
        """What is parked and where, for a person who looks for the cause."""
        hub = "SELECT parked_at, system, entity, local_key, reason, message FROM hub.parked WHERE state = 'open' ORDER BY id"
        target = "SELECT at, entity, record, version, reason, field, message FROM lienthong.parked WHERE state = 'parked' ORDER BY id"
        lines = [f"hub: {row}" for row in self.hub(hub)]
        named = sorted({int(number) for line in lines for number in re.findall(r"record (\d+)", line)})
        said = "SELECT to_jsonb(c) - 'body' FROM hub.contribution c WHERE record = ANY(%s) ORDER BY record, system"
        lines += [f"  {json.dumps(row, default=str)}" for (row,) in self.hub(said, [named])]
        for name in CLUSTERS:
            lines += [f"{name}: {row}" for row in self.sql(name, target)]
        return "\n".join(lines)

    def evidence(self, texts: Sequence[str]) -> str:
        """All that is known of the dossiers that findings name."""
        lines = []
        for code in sorted({found for text in texts for found in CODE.findall(text)}):
            claimed = "SELECT record FROM hub.contribution WHERE claim = 'dossier:' || %(c)s"
            records = f"{claimed} UNION SELECT record FROM hub.record WHERE body ->> 'national_code' = %(c)s"  # noqa: S608
            family = f"SELECT record FROM hub.record WHERE record IN ({records}) OR parent IN ({records}) OR merged_into IN ({records})"  # noqa: S608
            for table in ("record", "contribution", "history", "entitled"):
                found = self.hub(f"SELECT to_jsonb(t) - 'body' FROM hub.{table} t WHERE record IN ({family}) ORDER BY 1", {"c": code})  # noqa: S608
                lines += [f"hub.{table}: {json.dumps(row, default=str)}" for (row,) in found]
            numbers = [number for (number,) in self.hub(family, {"c": code})]
            for name in CLUSTERS:
                table, leads = ("application", "application_id") if name == "portal" else ("ho_so", "ho_so_id")
                found = self.sql(
                    name,
                    f"""WITH ids AS (SELECT DISTINCT coalesce(now, before) ->> 'id' AS id FROM witness.wrote
                          WHERE tbl = '{table}' AND %s IN (now ->> 'code', now ->> 'ma_qg', before ->> 'code', before ->> 'ma_qg'))
                        SELECT id, app, tbl, op::text, now, before FROM witness.wrote
                        WHERE (tbl = '{table}' AND coalesce(now, before) ->> 'id' IN (SELECT id FROM ids))
                           OR coalesce(now, before) ->> '{leads}' IN (SELECT id FROM ids) ORDER BY id""",  # noqa: S608
                    arguments=[code],
                )
                lines += [f"{name}: {row}" for row in found]
                applied = "SELECT entity, record, local_key, epoch, version, state, inserted, parent FROM lienthong.applied WHERE record = ANY(%s)"
                lines += [f"{name} applied: {row}" for row in self.sql(name, applied, arguments=[numbers])]
        return "\n".join(lines)

    def end(self) -> None:
        """Stop everything of ours."""
        with suppress(subprocess.TimeoutExpired, ValueError):
            self.stop_load()
        for process in self.roles.values():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            process.kill()
            process.wait()
        self.roles.clear()
        self.stop()
        if self.proxy is not None:
            self.proxy.stop()


@contextmanager
def fault_city(folder: Path, seed: str) -> Iterator[FaultCity]:
    """A running city on servers of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)
    with Stack(folder / "servers", clusters=("hub", "central", "ward")) as stack:
        made = FaultCity(stack, folder, seed)
        try:
            made.set_up()
            made.begin()
            yield made
        finally:
            made.end()


def canaries() -> Mapping[str, bytes]:
    """What must not be seen anywhere but in records."""
    return {"name": load.CANARY.encode(), "phone": load.CANARY_PHONE.encode(), "number": load.CANARY_NUMBER.encode()}


def _variable(system: str) -> str:
    return f"{system.upper().replace('-', '_')}_DSN"
