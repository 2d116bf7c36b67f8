"""The jobs: dramatiq actors on Redis, on the AsyncIO middleware's loop and in worker threads.

``python -m dramatiq ledger.tasks --processes 1 --threads 8`` works them off.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import dramatiq
from dramatiq.asyncio import get_event_loop_thread
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO, Middleware
from sqlalchemy import select

from . import database
from .collector import collect_often
from .models import Entry, Run


class _Local(threading.local):
    runner: asyncio.Runner | None = None


_local = _Local()


class Database(Middleware):
    """Ends each thread's loop and connections with the thread.

    It comes after AsyncIO in the list, so that it is told of an end before it.
    """

    def after_worker_boot(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        collect_often()

    def before_worker_thread_shutdown(self, _broker: dramatiq.Broker, _thread: object) -> None:
        if _local.runner is not None:
            _local.runner.run(database.dispose())
            _local.runner.close()

    def after_worker_shutdown(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        loop = get_event_loop_thread()
        if loop is not None:
            loop.run_coroutine(database.dispose())


broker = RedisBroker(
    url=os.environ["LEDGER_BROKER"],
    # After this many milliseconds without a sign of life, a worker's messages go to another one.
    heartbeat_timeout=5_000,
    maintenance_chance=20_000,
)
broker.add_middleware(AsyncIO())
broker.add_middleware(Database())
dramatiq.set_broker(broker)


async def _work(actor: str, account: int, amount: int, key: str) -> None:
    """What both actors do: the same key twice is one entry, and a row for each time.

    dramatiq promises that a message is delivered at least once.
    """
    async with database.sessions().begin() as session:
        name = threading.current_thread().name
        gil = sys._is_gil_enabled()  # type: ignore[attr-defined]
        session.add(Run(key=key, actor=actor, thread=name, gil=gil))
        if await session.scalar(select(Entry.id).where(Entry.key == key)) is None:
            await database.add_entry(session, account, amount, key)


@dramatiq.actor(max_retries=20, min_backoff=100, max_backoff=1_000)
async def on_the_loop(account: int, amount: int, key: str) -> None:
    """Work in the event loop of the AsyncIO middleware."""
    await _work("on_the_loop", account, amount, key)


@dramatiq.actor(max_retries=20, min_backoff=100, max_backoff=1_000)
def in_a_thread(account: int, amount: int, key: str) -> None:
    """Work in the worker's thread, in an event loop of its own."""
    if _local.runner is None:
        _local.runner = asyncio.Runner()
    _local.runner.run(_work("in_a_thread", account, amount, key))


ACTORS = {actor.actor_name: actor for actor in (on_the_loop, in_a_thread)}
