"""What an operator does about each reason for which a record is parked."""

from __future__ import annotations

CORRECT = "correct it at {system}; the corrected record is taken by itself"

ADVICE: dict[str, str] = {
    "damaged": "its bytes were changed on their way: lienthong load the systems that write this partition; nothing else stopped",
    "duplicate_identifier": "ask {system} which of its two records is right, and correct the code of the other",
    "held": "replay the first parked message about this record: lienthong parked replay; this one follows it",
    "impossible_date": CORRECT,
    "invalid_utf8": CORRECT,
    "link_in_doubt": "compare the two with lienthong trace; lienthong parked replay --decide accept makes them one, --decide keep keeps them apart",
    "malformed": CORRECT,
    "malformed_personal_number": CORRECT,
    "malformed_unit_code": CORRECT,
    "missing": "complete it at {system}; the completed record is taken by itself",
    "not_a_boolean": CORRECT,
    "not_in_new_epoch": "ask {system}, then: lienthong parked replay --decide accept deletes it, --decide keep keeps it",
    "not_a_number": CORRECT,
    "not_an_amount": CORRECT,
    "nul_character": CORRECT,
    "refused_by_target": "lift the rule of {system} that refuses it, then: lienthong parked replay; or correct the record at its owner",
    "too_large": "shorten it at {system}, or set a smaller column in the profile; the shortened record is taken by itself",
    "unfit": "correct the mapping in the profile, then: lienthong load {system}",
    "unit_not_valid_then": "correct the code or the date at {system}; codes are used again after a reform, so both must fit",
    "unknown_schema": "it was not written by this service: find who may write to this topic; nothing else stopped",
    "unknown_unit": CORRECT,
    "unmapped_word": "add the word to values in the profile, then: lienthong parked replay --system {system}",
    "unreachable": "it is tried again by itself; its records wait in its topic",
    "unreadable": CORRECT,
    "unsendable": "correct the field at {system}; the national portal has no place for it as it is, and the corrected state is sent by itself",
    "withdraw_kept": "{system} decides whether the row may stay; then: lienthong parked discard",
}


def advice(reason: str, system: str) -> str:
    """What to do about a record parked for this reason; `?` is a system that could not be told."""
    words = ADVICE.get(reason, "look at the record with lienthong trace")
    return words.format(system="its source" if system == "?" else system)
