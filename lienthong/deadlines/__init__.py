"""Deadlines as of any time: the state calendar, due dates, pauses and extensions, and the share of dossiers on time."""

from lienthong.deadlines.calendar import Calendar
from lienthong.deadlines.figures import figures
from lienthong.deadlines.published import newest, recompute, store

__all__ = ["Calendar", "figures", "newest", "recompute", "store"]
