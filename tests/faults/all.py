"""Every fault there is: importing this module registers them."""

from tests.faults import both_sides, data, full, kills, refusals, topics
from tests.faults.suite import FAULTS

MODULES = (both_sides, data, full, kills, refusals, topics)
__all__ = ["FAULTS", "MODULES"]
