"""The service's errors; the tree is drawn in `connectors.errors`, so that the doors can raise them too."""

from connectors.errors import (
    ConfigError,
    FatalError,
    FencedError,
    LienThongError,
    RecordError,
    TransientError,
)

__all__ = ["ConfigError", "FatalError", "FencedError", "LienThongError", "RecordError", "TransientError"]
