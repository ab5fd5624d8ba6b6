"""Every fault there is: importing this module registers them."""

from tests.faults import data, kills
from tests.faults.suite import FAULTS

MODULES = (data, kills)
__all__ = ["FAULTS", "MODULES"]
