"""The command line: `lienthong <noun> <verb>`, plain verbs for what is daily."""

from lienthong.cli.main import main

__all__ = ["main"]
