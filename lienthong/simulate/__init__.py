"""The demo's city as it lives: seeded, synthetic, and written only through each system's own tables."""

from lienthong.simulate.city import Lived, Write
from lienthong.simulate.fill import Filled, fill
from lienthong.simulate.live import live

__all__ = ["Filled", "Lived", "Write", "fill", "live"]
