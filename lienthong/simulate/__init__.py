"""The demo's city as it lives: seeded, synthetic, and written only through each system's own tables."""

from lienthong.simulate.fill import Filled, fill

__all__ = ["Filled", "fill"]
