"""Every fault there is: importing this module registers them."""

from tests.faults import data, kills, topics
from tests.faults.suite import FAULTS

MODULES = (data, kills, topics)
__all__ = ["FAULTS", "MODULES"]
