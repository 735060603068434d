"""What a verb needs around it: the contract loaded, the servers there, the ports open, everything closed behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from pilotis.cli.output import Options, note, settings

if TYPE_CHECKING:
    from pilotis.derive.plan import Env, Plan
    from pilotis.ports import Deps
    from pilotis.wiring import Settings

T = TypeVar("T")


def load(options: Options) -> tuple[Settings, Plan, Env]:
    """Settings, plan and env of this call; a note says so where the contract is the built-in one."""
    from pilotis import wiring

    given = settings(options)
    plan, env = wiring.load_plan(given)
    if given.contract is None and not options.json:
        note("no contract here (pilotis.toml): using the built-in one")
    return given, plan, env


def run(options: Options, work: Callable[[Deps, Plan, Env], Awaitable[T]], *, asks: bool = False) -> T:
    """Do `work` with everything open; with `asks` also the models that answer. Raises what opening or `work` raises.

    What it costs is in the ledger before this returns, unless Redis goes away: then the next process brings it there.
    """
    import asyncio

    from pilotis import wiring

    given, plan, env = load(options)
    with wiring.stack(given, plan, env) as addresses:

        async def opened() -> T:
            async with wiring.open_deps(given, plan, env, addresses=addresses, asks=asks) as deps, wiring.booked(deps, env):
                return await work(deps, plan, wiring.in_force(env, deps.generation))

        return asyncio.run(opened())
