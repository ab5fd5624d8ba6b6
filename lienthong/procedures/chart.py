"""The picture of a review: the procedures with most dossiers, and how many of them came online."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from connectors.charts import stacked_bars

SHOWN = 15
NAME_CHARACTERS = 38

Language = Literal["en", "vi"]
WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "title": "Dossiers of the last twelve months by procedure",
        "told": "{shown} procedures with most dossiers, as of {as_of}. First: {first}, {dossiers} dossiers, {share} of them online.",
        "online": "online",
        "other": "at the counter or by post",
        "empty": "no dossiers",
    },
    "vi": {
        "title": "Hồ sơ trong 12 tháng qua theo thủ tục",
        "told": "{shown} thủ tục có nhiều hồ sơ nhất, tính đến {as_of}. Đứng đầu: {first}, {dossiers} hồ sơ, {share} nộp trực tuyến.",
        "online": "trực tuyến",
        "other": "trực tiếp hoặc qua bưu chính",
        "empty": "không có hồ sơ",
    },
}


def chart_svg(rows: Sequence[Mapping[str, Any]], language: Language = "en") -> str:
    """The busiest procedures of a review as bars, one SVG element; it needs no script and follows the reader's light or dark."""
    words = WORDS[language]
    busy = sorted((r for r in rows if r["dossiers_12m"] and r["procedure_code"]), key=lambda r: (-r["dossiers_12m"], r["procedure_code"]))[:SHOWN]
    description = words["empty"]
    if busy:
        first = busy[0]
        description = words["told"].format(
            shown=len(busy), as_of=first.get("as_of", "-"), first=_label(first), dossiers=first["dossiers_12m"], share=f"{first['online_share']:.0%}"
        )
    series = {words["online"]: [r["online_12m"] for r in busy], words["other"]: [r["not_online_12m"] for r in busy]}
    return stacked_bars(words["title"], description, [_label(r) for r in busy], series, empty=words["empty"])


def _label(row: Mapping[str, Any]) -> str:
    """Code and name, short enough for the side of a bar."""
    name = row["name"] or ""
    short = name if len(name) <= NAME_CHARACTERS else name[: NAME_CHARACTERS - 1].rstrip() + "…"
    return f"{row['procedure_code']} {short}".strip()
