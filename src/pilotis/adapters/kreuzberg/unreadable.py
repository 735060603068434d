"""What a reader raises inside the child; it crosses the pipe as two strings."""

from __future__ import annotations


class Unreadable(Exception):
    """A file that cannot become text: why, in words for the person who sent it, and what they can do."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
