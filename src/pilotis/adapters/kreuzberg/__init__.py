"""Files of any format become text, read by kreuzberg in a process of its own."""

from pilotis.adapters.kreuzberg.media import media_type
from pilotis.adapters.kreuzberg.parser import KreuzbergParser, open_parser

__all__ = ["KreuzbergParser", "media_type", "open_parser"]
