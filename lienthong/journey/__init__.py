"""Journeys: everything every system has said and acknowledged about one record, who holds it now, what is expected next, and what is lost."""

from lienthong.journey.view import of

__all__ = ["of"]
