"""The door to pygal: bars as SVG that needs no script, says in words what it shows, and follows the reader's light or dark."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from html import escape
from typing import Any

import pygal
from pygal.style import Style

# pygal 3.1.3 leaves a finder of modules of its own behind, by an interface that Python 3.12 has ended; it is for plug-ins, which are not used here.
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != pygal.__name__]

INK, LINE = "var(--chart-ink)", "var(--chart-line)"
COLOURS = ("var(--chart-1)", "var(--chart-2)", "var(--chart-3)")
LIGHT = "--chart-ink:#1f2933;--chart-line:#9aa5b1;--chart-1:#0b6e99;--chart-2:#b45309;--chart-3:#7b5ea7;--chart-on:#ffffff"
DARK = "--chart-ink:#e4e7eb;--chart-line:#616e7c;--chart-1:#6cc3e8;--chart-2:#f2b84b;--chart-3:#c3a6f0;--chart-on:#111418"
"""Each colour against its ground has a contrast of at least 3:1, ink at least 7:1 (WCAG 1.4.11, 1.4.6)."""

FONT = "system-ui, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"
ROW_PIXELS, FRAME_PIXELS, WIDTH_PIXELS = 34, 150, 960


def stacked_bars(title: str, description: str, labels: Sequence[str], series: Mapping[str, Sequence[int]], *, empty: str) -> str:
    """Horizontal stacked bars, one for each label from the top, as one SVG element; `empty` stands there when there are none."""
    style = Style(
        background="transparent", plot_background="transparent", foreground=INK, foreground_strong=INK, foreground_subtle=LINE,
        opacity="1", opacity_hover="0.85", colors=COLOURS, value_colors=("var(--chart-on)",) * len(COLOURS), font_family=FONT,
        label_font_size=13, major_label_font_size=13, legend_font_size=14, value_font_size=12, no_data_font_size=20, transition="0s",
        guide_stroke_color=LINE, major_guide_stroke_color=LINE, guide_stroke_dasharray="1,4", major_guide_stroke_dasharray="1,4",
    )  # fmt: skip
    chart: Any = pygal.HorizontalStackedBar(
        style=style, js=[], disable_xml_declaration=True, legend_at_bottom=True, legend_at_bottom_columns=len(series), print_values=True,
        print_zeroes=False, truncate_label=-1, show_y_guides=False, spacing=12, width=WIDTH_PIXELS, no_data_text=empty,
        height=FRAME_PIXELS + ROW_PIXELS * max(len(labels), 3), formatter=lambda value: f"{value:,.0f}",
    )  # fmt: skip
    chart.x_labels = list(reversed(labels))
    for name, values in series.items():
        chart.add(name, list(reversed(values)))
    chart.uuid = sha256(repr((title, labels, series)).encode()).hexdigest()[:12]
    return _told(chart.render(is_unicode=True), f"chart-{chart.uuid}", title, description)


def _told(drawn: str, name: str, title: str, description: str) -> str:
    """The picture with its title and description first, its colours for light and dark, and without the library's notes, dates and scripts."""
    drawn = re.sub(r"<!--.*?-->|<script.*?</script>", "", drawn, flags=re.DOTALL)
    colours = f"#{name}{{{LIGHT}}}@media (prefers-color-scheme: dark){{#{name}{{{DARK}}}}}"
    words = (
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
        f"<style>{colours}#{name}{{max-width:100%;height:auto}}</style>"
    )
    opening, rest = drawn.split(">", 1)
    return f'{opening} role="img" aria-labelledby="{name}-title {name}-desc">{words}{rest}'
