"""Scorecards: how each agency and ward, and the city as a whole, did in a range of days."""

from lienthong.scorecards.compute import CITY, compute, newest

__all__ = ["CITY", "compute", "newest"]
