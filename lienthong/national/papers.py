"""The papers of a message where the portal takes files: fetched from the configured places and put there before the message that carries them.

Each content is put once, known by its SHA-256. The interface has no look-up of files, so one whose answer was lost is put again: until a
message names it, a file there is nobody's paper, as a code that no dossier used is nobody's code.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from connectors.http import HttpDoor, Limits, Refused, TooLarge, UnknownOutcome
from connectors.postgres import connect, one, transaction
from lienthong.config_national import Portal
from lienthong.errors import FatalError, LienThongError, TransientError
from lienthong.national.portal_messages import Fields, Unsendable

PAPERS, LINK, ID, HASH = "TaiLieuNop", "DuongDanTaiTepTin", "IdTepTin", "HashTepTin"
PAPER_BYTES_MAX = 20 * 1024 * 1024
PARALLEL = 4
"""Papers under way at once in one process: each is held in memory whole, and a slow server of papers keeps no other message waiting."""
_SERVER_ERRORS = 500
_FINE = 200

_TAKE = """
INSERT INTO hub.delivery_file AS f (system, digest, asked_until)
VALUES (%(system)s, %(digest)s, clock_timestamp() + %(lease)s * INTERVAL '1 second')
ON CONFLICT (system, digest) DO UPDATE SET asked_until = excluded.asked_until WHERE f.id IS NULL AND f.asked_until < clock_timestamp()
"""
_ID = "SELECT id FROM hub.delivery_file WHERE system = %(system)s AND digest = %(digest)s"
_KEEP = "UPDATE hub.delivery_file SET id = %(id)s, asked_until = clock_timestamp() WHERE system = %(system)s AND digest = %(digest)s AND id IS NULL"


class Uploader(Protocol):
    """The portal, as far as files go."""

    def upload(self, name: str, content: bytes) -> tuple[str, str]:
        """Put a file there; its id and the portal's own SHA-256 of it."""


class Papers:
    """Puts papers at one portal, from any thread."""

    def __init__(self, hub: str, portal: Portal, client: Uploader) -> None:
        self._system, self._client, self._seconds = portal.system, client, portal.deadline_seconds
        limits = Limits(seconds=portal.deadline_seconds, bytes_max=PAPER_BYTES_MAX)
        self._places = {place: HttpDoor(place, limits=limits) for place in portal.files}
        self._hub = connect(hub, application_name="lienthong deliver papers")
        self._lock, self._turns = threading.Lock(), threading.BoundedSemaphore(PARALLEL)

    def put(self, message: Fields) -> Fields | None:
        """The message with ids and hashes of its papers instead of their links, or of some: what is left is done at the next turn.

        None when it has no link. Raises `Unsendable` and `Refused` for a paper that cannot be put, `TransientError` for one that cannot yet.
        """
        changed = copy.deepcopy(message)
        linked = [(place, paper) for place, paper in enumerate(changed.get(PAPERS, []), start=1) if LINK in paper]
        ends = time.monotonic() + self._seconds
        for done, (place, paper) in enumerate(linked):
            if done and time.monotonic() > ends:
                break
            try:
                self._put(paper, str(paper.get("MaThanhPhanHoSo") or f"paper {place}"))
            except LienThongError:
                if not done:
                    raise
                break  # what was put before it is kept; it is met again at the next turn
        return changed if linked else None

    def close(self) -> None:
        """Drop all connections."""
        for door in self._places.values():
            door.close()
        self._hub.close()

    def check(self) -> None:
        """Raise `TransientError` when the hub is gone: the role begins anew."""
        with self._lock, transaction(self._hub) as cursor:
            cursor.execute("SELECT 1")

    # ------------------------------------------------------------ one paper
    def _put(self, paper: dict[str, Any], name: str) -> None:
        if not self._turns.acquire(blocking=False):
            raise TransientError(f"{LINK}: {name}: as many papers as may be are under way")
        try:
            self._replace(paper, name)
        finally:
            self._turns.release()

    def _replace(self, paper: dict[str, Any], name: str) -> None:
        content = self._fetched(paper[LINK], name)
        digest = sha256(content)
        if paper.get(HASH, digest.hexdigest()) != digest.hexdigest():
            raise Unsendable(HASH, f"{name}: the file at its link is not the one its system told of")
        paper[ID], paper[HASH] = self._known(name, content, digest.digest()), digest.hexdigest()
        del paper[LINK]

    def _fetched(self, link: str, name: str) -> bytes:
        """The content behind a link; nothing is fetched from elsewhere than the configured places."""
        place = place_of(link, tuple(self._places))
        if place is None:
            raise Unsendable(LINK, f"{name}: the link leads to none of the places in portal.files")
        try:
            answer = self._places[place].send("GET", "/" + link[len(place) :].partition("#")[0])
        except TooLarge:
            raise Unsendable(LINK, f"{name}: the file is larger than {PAPER_BYTES_MAX:,} bytes") from None
        except (TransientError, UnknownOutcome, FatalError) as error:
            raise TransientError(f"{LINK}: {name}: the file cannot be fetched yet: {error}") from None
        if answer.status >= _SERVER_ERRORS:
            raise TransientError(f"{LINK}: {name}: the file cannot be fetched yet (HTTP {answer.status})")
        if answer.status != _FINE or not answer.body:
            raise Unsendable(LINK, f"{name}: there is no file at its link (HTTP {answer.status}, {len(answer.body)} bytes)")
        return answer.body

    def _known(self, name: str, content: bytes, digest: bytes) -> str:
        """The id of a content at the portal; put there unless it is, by one process at a time."""
        asked = {"system": self._system, "digest": digest, "lease": 60 + 3 * self._seconds}
        with self._lock, transaction(self._hub) as cursor:
            cursor.execute(_TAKE, asked)
            is_mine = bool(cursor.rowcount)
            (id_,) = one(cursor, _ID, asked) or (None,)
        if id_ is not None:
            return str(id_)
        if not is_mine:
            raise TransientError(f"{ID}: {name}: the same file is being put for another message")
        try:
            id_ = self._uploaded(name, content, digest)
        finally:
            with self._lock, transaction(self._hub) as cursor:
                cursor.execute(_KEEP, {**asked, "id": id_})
        return id_

    def _uploaded(self, name: str, content: bytes, digest: bytes) -> str:
        try:
            id_, theirs = self._client.upload(name, content)
        except Refused as error:
            raise Refused(error.reason, f"{ID}: {name}: {error}") from None
        except UnknownOutcome as error:
            raise TransientError(f"{ID}: {name}: it is not known whether the file was taken, so it is put again: {error}") from None
        if theirs.lower() != digest.hex():
            raise Refused("hash", f"{HASH}: {name}: the portal holds another content under the id it gave")
        return id_


def place_of(link: str, places: Sequence[str]) -> str | None:
    """The configured place a link leads to; None for a link elsewhere, or with a path that may lead out of it."""
    try:
        steps = unquote(urlsplit(link).path).replace("\\", "/").split("/")
    except ValueError:
        return None
    if "." in steps or ".." in steps or any(character.isspace() or not character.isprintable() for character in link):
        return None
    return next((place for place in places if link.startswith(place)), None)
