"""Bytes in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from hashlib import sha256 as new_sha256
from pathlib import Path
from typing import Literal

from pilotis.errors import Transient


class MemoryBlobs:
    """Bytes by their SHA-256."""

    where = "memory"

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self._put_at: dict[str, float] = {}

    async def put(self, content: Path) -> tuple[str, int]:
        read = await asyncio.to_thread(content.read_bytes)
        digest = new_sha256(read).hexdigest()
        if digest not in self.contents:
            self._put_at[digest] = time.monotonic()
        self.contents[digest] = read
        return digest, len(read)

    async def settle(self, sha256: str) -> None:
        self._put_at.pop(sha256, None)

    async def unsettled(self, *, older_than_s: float) -> Sequence[str]:
        return [digest for digest, at in self._put_at.items() if at <= time.monotonic() - older_than_s]

    async def fetch(self, sha256: str, into: Path) -> None:
        if sha256 not in self.contents:
            raise Transient(f"its stored bytes are missing ({sha256[:12]}…)", remedy="send the document again")
        await asyncio.to_thread(into.write_bytes, self.contents[sha256])

    async def exists(self, sha256: str) -> bool:
        return sha256 in self.contents

    async def check(self, sha256: str) -> Literal["whole", "damaged", "missing"]:
        if sha256 not in self.contents:
            return "missing"
        return "whole" if new_sha256(self.contents[sha256]).hexdigest() == sha256 else "damaged"

    async def settled(self, *, older_than_s: float) -> Sequence[str]:
        return [] if older_than_s else [digest for digest in self.contents if digest not in self._put_at]

    async def delete(self, sha256: str) -> None:
        self.contents.pop(sha256, None)
        self._put_at.pop(sha256, None)
