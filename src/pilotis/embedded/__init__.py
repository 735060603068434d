"""The one-machine world: Postgres with pgvector and Redis from wheels, in one folder, living as long as somebody uses them."""

from __future__ import annotations

from pilotis.embedded.stack import Addresses, Stack, revive, running
from pilotis.embedded.status import Status, status

__all__ = ["Addresses", "Stack", "Status", "revive", "running", "status"]
