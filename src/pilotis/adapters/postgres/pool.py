"""Connections to Postgres, and the one place where its errors become ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg import errors as pg
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from pilotis.errors import Permanent, Transient

_SETTINGS = """
    SET hnsw.ef_search = 64;
    SET hnsw.iterative_scan = relaxed_order;
    SET plan_cache_mode = force_custom_plan;
    SET statement_timeout = '60s';
    SET idle_in_transaction_session_timeout = '120s'
"""
# force_custom_plan: a plan made for a business unit with ten passages is wrong for one with a million.


async def open_pool(url: str, *, min_size: int = 1, max_size: int = 10) -> AsyncConnectionPool:
    """Open a pool and wait until it has a connection; the caller closes it. Raises Transient where Postgres is away."""
    pool = AsyncConnectionPool(
        url,
        min_size=min_size,
        max_size=max(min_size, max_size),
        configure=_configure,
        check=AsyncConnectionPool.check_connection if not url.startswith("postgresql://pilotis@/") else None,
        kwargs={"connect_timeout": 5},
        timeout=5.0,
        open=False,
        name="pilotis",
    )
    try:
        async with translated():
            await pool.open(wait=True, timeout=10.0)
    except BaseException:  # whatever it was, a half-open pool must not outlive it
        await pool.close()
        raise
    return pool


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turn psycopg's errors into Transient (Postgres is away, full or overloaded) and Permanent (it refuses the data)."""
    try:
        yield
    except (PoolTimeout, TooManyRequests) as error:
        raise Transient(
            "no database connection came free in time", remedy="try again; see perf.pool_max", retry_after_s=2
        ) from error
    except (pg.DiskFull, pg.OutOfMemory, pg.ConfigurationLimitExceeded) as error:
        raise Transient(
            f"Postgres has no room: {_first_line(error)}", remedy="free disk space and try again", retry_after_s=30
        ) from error
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise Transient(f"Postgres is away: {_first_line(error)}", remedy="see: pilotis doctor") from error
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise Permanent(f"Postgres refuses the data: {_first_line(error)}") from error


async def _configure(connection: psycopg.AsyncConnection) -> None:
    await connection.set_autocommit(True)
    for statement in _SETTINGS.split(";"):
        await connection.execute(statement.encode())


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
