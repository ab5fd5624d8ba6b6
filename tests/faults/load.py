"""The applications of the faults' city at work, as a process of its own: citizens and clerks write to their own tables only.

python load.py SEED RATE ROLLBACKS, with PORTAL_DSN, WARD_A_DSN and WARD_B_DSN in the environment; SIGTERM ends it, and it prints what
was committed. A server that goes away is waited for. All personal data carries the canary.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import psycopg2

CANARY = "Zqcanary"  # in every name, address and remark of a person
CANARY_PHONE, CANARY_NUMBER = "0977131", "0791877"
UNITS = {"ward-a": "26737", "ward-b": "26740"}
KEPT = "code !~ '^[DR]'"  # dossiers that are deleted or rerouted belong to the portal alone
STATES = ("received", "handled", "more", "done", "returned")
NUMBERS = (2, 4, 5, 9, 10)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class RolledBack(Exception):
    """Not an error: the application thinks better of it."""


class Desk(threading.Thread):
    """One system's people."""

    def __init__(self, system: str, dsn: str, seed: str, rate: float, rollbacks: float, stop: threading.Event) -> None:
        super().__init__(name=system, daemon=True)
        self.system, self.dsn, self.rate, self.rollbacks, self.stopped = system, dsn, rate, rollbacks, stop
        self.random = Random(f"{seed} {system}")
        self.tag = self.word(4)
        self.number = 0
        self.done: Counter[str] = Counter()
        self.connection: Any = None

    def run(self) -> None:
        """Act at the rate until told to stop."""
        began, acts = time.monotonic(), 0
        while not self.stopped.is_set():
            acts += 1
            self.once()
            self.stopped.wait(max(0.0, began + acts / self.rate - time.monotonic()))

    def once(self) -> None:
        """One action in one transaction."""
        weights, actions = zip(*self.actions(), strict=True)
        action = self.random.choices(actions, weights)[0]
        try:
            if self.connection is None or self.connection.closed:
                self.connection = psycopg2.connect(self.dsn, application_name="city desk", connect_timeout=5)
            with self.connection.cursor() as cursor:
                name = action(cursor)
                if self.random.random() < self.rollbacks:
                    raise RolledBack
            self.connection.commit()
            self.done[name] += 1
        except RolledBack:
            self.connection.rollback()
            self.done["rolled_back"] += 1
        except psycopg2.Error as error:
            self.done["failed"] += 1
            if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) and error.pgcode is None:
                if self.connection is not None:
                    self.connection.close()
                self.stopped.wait(0.1)
            else:
                self.connection.rollback()

    def actions(self) -> list[tuple[int, Callable[[Any], str]]]:
        """What these people do, and how often."""
        raise NotImplementedError

    # ------------------------------------------------------------ values
    def word(self, length: int) -> str:
        """Random letters."""
        return "".join(self.random.choices(LETTERS, k=length))

    def person_name(self) -> str:
        """A name that is nobody's."""
        return f"Nguyễn {CANARY} {self.word(6).capitalize()}"

    def phone(self) -> str:
        """A phone that is nobody's."""
        return f"{CANARY_PHONE}{self.random.randrange(1000):03}"

    def personal_number(self) -> str:
        """A number that is nobody's."""
        return f"{CANARY_NUMBER}{self.random.randrange(100_000):05}"

    def new_code(self, kind: str) -> str:
        """A code no other dossier has."""
        self.number += 1
        return f"{kind}{UNITS.get(self.system, '00000')}.{self.tag}.{self.number:05}"

    def when(self) -> datetime:
        """Now, to the microsecond: no two steps of a dossier are at one instant."""
        return datetime.now(UTC)

    def salt(self) -> str:
        """Makes a pick arbitrary."""
        return self.word(6)

    @staticmethod
    def pick(cursor: Any, statement: str, arguments: list[Any]) -> tuple[Any, ...] | None:
        """One row."""
        cursor.execute(statement, arguments)
        return cursor.fetchone()  # type: ignore[no-any-return]


class Portal(Desk):
    """Citizens file, correct, withdraw and file again; the office forwards to another ward."""

    def actions(self) -> list[tuple[int, Callable[[Any], str]]]:
        return [(44, self.submit), (22, self.correct), (10, self.register), (8, self.call), (6, self.delete), (4, self.again), (6, self.reroute)]

    def submit(self, cursor: Any) -> str:
        kind = self.random.choice("PPPPPPPDDRR")
        self._insert(cursor, self.new_code(kind))
        return "submit"

    def _insert(self, cursor: Any, code: str) -> None:
        at = self.when()
        cursor.execute(
            """INSERT INTO application (code, procedure, unit, submitted, name, number, phone, remark, officer)
               VALUES (%s, '1.004227', %s, %s, %s, %s, %s, %s, 'portal') RETURNING id""",
            [code, self.random.choice([*UNITS.values()]), at - timedelta(minutes=1), self.person_name(), self.personal_number(), self.phone(),
             f"{CANARY} {self.word(8)}"],
        )  # fmt: skip
        cursor.execute("INSERT INTO step (application_id, state, at, officer) VALUES (%s, 'sent', %s, 'portal')", [cursor.fetchone()[0], at])

    def correct(self, cursor: Any) -> str:
        cursor.execute(
            """UPDATE application SET remark = %s, phone = %s WHERE id = (SELECT id FROM application ORDER BY md5(code || %s) LIMIT 1)""",
            [f"{CANARY} {self.word(8)}", self.phone(), self.salt()],
        )
        return "correct"

    def register(self, cursor: Any) -> str:
        cursor.execute(
            """INSERT INTO person (number, name, born, address, unit, moved, phone, called) VALUES (%s, %s, '1987-03-02', %s, %s, %s, %s, %s)
               ON CONFLICT DO NOTHING""",
            [self.personal_number(), self.person_name(), f"{CANARY} {self.word(8)}", self.random.choice([*UNITS.values()]),
             self.when() - timedelta(days=2), self.phone(), self.when()],
        )  # fmt: skip
        return "register"

    def call(self, cursor: Any) -> str:
        cursor.execute(
            "UPDATE person SET phone = %s, called = %s WHERE id = (SELECT id FROM person ORDER BY md5(number || %s) LIMIT 1)",
            [self.phone(), self.when(), self.salt()],
        )
        return "call"

    def delete(self, cursor: Any) -> str:
        cursor.execute(
            "DELETE FROM application WHERE id = (SELECT id FROM application WHERE code LIKE 'D%%' ORDER BY md5(code || %s) LIMIT 1)",
            [self.salt()],
        )
        return "delete" if cursor.rowcount else "nothing_to_do"

    def again(self, cursor: Any) -> str:
        """A deleted dossier is filed again under its code."""
        found = self.pick(
            cursor,
            """SELECT w.before ->> 'code' FROM witness.wrote w WHERE w.tbl = 'application' AND w.op = 'D' AND w.before ->> 'code' LIKE 'D%%'
               AND NOT EXISTS (SELECT 1 FROM application a WHERE a.code = w.before ->> 'code') ORDER BY md5(w.id::text || %s) LIMIT 1""",
            [self.salt()],
        )
        if found is None:
            return "nothing_to_do"
        self._insert(cursor, found[0])
        return "again"

    def reroute(self, cursor: Any) -> str:
        cursor.execute(
            """UPDATE application SET unit = CASE unit WHEN '26737' THEN '26740' ELSE '26737' END
               WHERE id = (SELECT id FROM application WHERE code LIKE 'R%%' ORDER BY md5(code || %s) LIMIT 1)""",
            [self.salt()],
        )
        return "reroute" if cursor.rowcount else "nothing_to_do"


class Ward(Desk):
    """Clerks take steps, receive at the counter, take fees, note new addresses, and delete what was entered by mistake."""

    def actions(self) -> list[tuple[int, Callable[[Any], str]]]:
        return [(56, self.step), (14, self.hand_in), (12, self.move), (12, self.charge), (3, self.delete)]

    def _dossier(self, cursor: Any, own: str = "") -> int | None:
        found = self.pick(
            cursor,
            """SELECT id FROM ho_so WHERE ma_qg !~ '^[DR]' AND phuong = %s AND ma_qg LIKE %s
               ORDER BY md5(ma_qg || %s) LIMIT 1 FOR UPDATE SKIP LOCKED""",
            [UNITS[self.system], f"{own}%", self.salt()],
        )
        return None if found is None else int(found[0])

    def step(self, cursor: Any) -> str:
        found = self._dossier(cursor)
        if found is None:
            return "nothing_to_do"
        state, at = self.random.choice(NUMBERS), self.when()
        cursor.execute(
            "UPDATE ho_so SET trang_thai = %s, can_bo = %s, y_kien = %s, ket_qua = %s WHERE id = %s",
            [state, self.word(5), self.word(8), self.word(8), found],
        )
        self._history(cursor, found, state, at)
        return "step"

    def _history(self, cursor: Any, found: int, state: int, at: datetime) -> None:
        if self.system == "ward-a":
            cursor.execute("INSERT INTO buoc (ho_so_id, trang_thai, luc, can_bo) VALUES (%s, %s, %s, %s)", [found, state, at, self.word(5)])

    def hand_in(self, cursor: Any) -> str:
        at = self.when()
        cursor.execute(
            """INSERT INTO ho_so (ma_qg, thu_tuc, phuong, trang_thai, ngay_nop, ho_ten, cccd, dien_thoai, ghi_chu, can_bo)
               VALUES (%s, '1.000894', %s, 2, %s AT TIME ZONE 'Asia/Ho_Chi_Minh', %s, %s, %s, %s, 'desk') RETURNING id""",
            [self.new_code("W"), UNITS[self.system], at, self.person_name(), self.personal_number(), self.phone(), f"{CANARY} {self.word(8)}"],
        )
        self._history(cursor, cursor.fetchone()[0], 2, at)
        return "hand_in"

    def charge(self, cursor: Any) -> str:
        found = self._dossier(cursor)
        if found is None:
            return "nothing_to_do"
        code = f"LP-{self.word(10)}"
        cursor.execute("INSERT INTO phi (ho_so_id, ma, so_tien) VALUES (%s, %s, %s)", [found, code, self.random.randrange(1, 90) * 1000])
        return "charge"

    def move(self, cursor: Any) -> str:
        cursor.execute(
            """UPDATE nguoi_dan SET dia_chi = %s WHERE id = (SELECT id FROM nguoi_dan ORDER BY md5(cccd || %s) LIMIT 1 FOR UPDATE SKIP LOCKED)""",
            [f"{CANARY} {self.word(8)}", self.salt()],
        )
        return "move" if cursor.rowcount else "nothing_to_do"

    def delete(self, cursor: Any) -> str:
        found = self._dossier(cursor, own=f"W{UNITS[self.system]}")
        if found is None:
            return "nothing_to_do"
        cursor.execute("DELETE FROM ho_so WHERE id = %s", [found])
        return "delete_at_desk"


def main() -> None:
    """Let everybody work until SIGTERM."""
    seed, rate, rollbacks = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    desks: list[Desk] = [Portal("portal", os.environ["PORTAL_DSN"], seed, rate / 2, rollbacks, stop)]
    desks += [Ward(name, os.environ[f"{name.upper().replace('-', '_')}_DSN"], seed, rate / 4, rollbacks, stop) for name in UNITS]
    for desk in desks:
        desk.start()
    while not stop.wait(0.1):
        pass
    for desk in desks:
        desk.join(15)
    total: Counter[str] = Counter()
    for desk in desks:
        total += desk.done
    print(json.dumps(total))  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
