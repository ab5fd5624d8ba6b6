"""The review of procedures: which are used, through which channel, how long they take; what to abolish, what to put or improve online next."""

from lienthong.procedures.chart import chart_svg
from lienthong.procedures.figures import Procedure, said, totals
from lienthong.procedures.review import Review, newest, review

__all__ = ["Procedure", "Review", "chart_svg", "newest", "review", "said", "totals"]
