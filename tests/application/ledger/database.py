"""The connection to the database: an engine for each thread, since each has its own event loop."""

from __future__ import annotations

import asyncio
import os
import threading

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from .models import Account, Base, Entry

_SHUT_DOWN = "57P01"  # what PostgreSQL tells a client whose connection it is told to end


class _Local(threading.local):
    engine: AsyncEngine | None = None
    sessions: async_sessionmaker[AsyncSession] | None = None


_local = _Local()


def sessions() -> async_sessionmaker[AsyncSession]:
    """Sessions of this thread's own engine."""
    if _local.sessions is None:
        url = os.environ["LEDGER_DATABASE"].replace("postgresql://", "postgresql+asyncpg://")
        _local.engine = create_async_engine(
            url, pool_size=8, max_overflow=8, pool_pre_ping=True, pool_timeout=20
        )
        _local.sessions = async_sessionmaker(_local.engine, expire_on_commit=False)
    return _local.sessions


async def dispose() -> None:
    """Close this thread's connections; to be called in its event loop."""
    if _local.engine is not None:
        await _local.engine.dispose()
    _local.engine = _local.sessions = None


async def add_entry(session: AsyncSession, account: int, amount: int, key: str) -> Account | None:
    """Put an amount on an account, in the session's transaction; None where there is no account.

    The account's row is locked until the end of the transaction.
    """
    found = await session.get(Account, account, with_for_update=True)
    if found is not None:
        found.balance += amount
        session.add(Entry(account_id=account, amount=amount, key=key))
        await session.flush()
    return found


def is_gone(error: DBAPIError) -> bool:
    """Whether the connection was lost, and not the statement refused."""
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) == _SHUT_DOWN


async def _create_tables() -> None:
    async with sessions()() as session:
        connection = await session.connection()
        await connection.run_sync(Base.metadata.create_all)
        await session.commit()
    await dispose()


if __name__ == "__main__":
    asyncio.run(_create_tables())
