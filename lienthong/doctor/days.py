"""The doctor at the days that are over: which of them are not certified, for which reason, and what helps."""

from __future__ import annotations

from collections.abc import Iterator

from lienthong.doctor import Said
from lienthong.doctor.look import Look

OVER_HOURS = 36
"""So long after its end a day should be closed; the alert ProofStale has the same limit."""
LOOKED_BACK_DAYS = 40

_IS_OVER = f"day > current_date - {LOOKED_BACK_DAYS} AND (day + 1)::timestamp AT TIME ZONE 'Asia/Ho_Chi_Minh' < now() - INTERVAL '{OVER_HOURS} h'"
# The newest issue of each entity counts; an entity may be open for several reasons.
_OPEN = f"""
SELECT system, count(DISTINCT day), min(day), mode() WITHIN GROUP (ORDER BY reason ->> 'code') FROM (
  SELECT DISTINCT ON (day, system, entity) day, system, state, body::jsonb -> 'reasons' AS reasons FROM hub.certificate
  WHERE day > current_date - {LOOKED_BACK_DAYS} ORDER BY day, system, entity, issue DESC
) newest CROSS JOIN LATERAL jsonb_array_elements(reasons) reason WHERE state = 'open' AND {_IS_OVER} GROUP BY 1 ORDER BY 1
"""  # noqa: S608 - a statement of our own
# Days of which something was counted, and the one after the last that was looked at.
_NONE = f"""
SELECT system, min(day) FROM (
  SELECT d.system, d.day FROM hub.day_count d WHERE d.outcome = 'captured'
  AND NOT EXISTS (SELECT FROM hub.certificate c WHERE (c.system, c.entity, c.day) = (d.system, d.entity, d.day))
  UNION ALL SELECT system, max(day) + 1 FROM hub.certificate GROUP BY system
) d WHERE {_IS_OVER} GROUP BY 1 ORDER BY 1
"""  # noqa: S608 - a statement of our own

_CURES = {
    "capture_differs": "lienthong repair --plan --system {0}",
    "merge_differs": "lienthong repair --plan --system {0}",
    "delivery_differs": "lienthong repair --plan --system {0}",
    "digests_differ": "lienthong reconcile --system {0} --full",
    "parked_at_target": "lienthong parked list --system {0} --kind apply",
    "kept_at_target": "lienthong parked list --system {0} --reason withdraw_kept",
    "waits": "lienthong parked list --system {0} --kind apply",
    "waits_for_parent": "lienthong parked list --system {0} --kind apply",
    "not_loaded": "lienthong load {0}",
    "unreadable_frames": "lienthong parked list --kind damaged",
    "counts_differ": "lienthong certificate list --open --system {0}",
}
"""What helps against a reason of docs/certificates.md; for the others the day is only to be closed again."""
_CLOSE = "lienthong certificate close --system {0}"


def certificate(look: Look) -> Iterator[Said]:
    """Days that are over and not closed."""
    here = set(look.settings.with_database())
    for system, days, first, reason in look.hub(_OPEN):
        if system in here:
            found = f"{days} of its days are open, the oldest {first}, most of them for {reason}"
            command = _CURES.get(reason, _CLOSE).format(system)
            note = "" if reason not in _CURES else f"then: {_CLOSE.format(system)}"
            yield Said(system, found, command, note)
    for system, first in look.hub(_NONE):
        if system in here:
            note = "with LIENTHONG_CERTIFICATE_KEY set (lienthong certificate key makes one); each night the flow close_day does it"
            yield Said(system, f"nobody has certified its days from {first} on", _CLOSE.format(system), note)
