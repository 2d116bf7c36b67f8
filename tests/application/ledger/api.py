"""The HTTP API: endpoints that read, write, page, stream, hand over to the worker, and fail."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import redis
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import selectinload
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from . import database, tasks
from .models import Account, Entry

_AT_ONCE = 50  # rows that a stream fetches at a time


async def health(_request: Request) -> JSONResponse:
    """Who answers, and whether the GIL is off."""
    gil = sys._is_gil_enabled()  # type: ignore[attr-defined]
    thread = threading.current_thread().name
    return JSONResponse({"process": os.getpid(), "thread": thread, "gil": gil})


async def open_account(request: Request) -> JSONResponse:
    """Make an account, and say its id."""
    body = await _body(request)
    async with database.sessions().begin() as session:
        account = Account(owner=body["owner"], balance=0)
        session.add(account)
        await session.flush()
        number = account.id
    return JSONResponse({"id": number}, status_code=201)


async def read_account(request: Request) -> JSONResponse:
    """An account with its entries, as an object with its relationship loaded."""
    number = request.path_params["account"]
    async with database.sessions()() as session:
        account = await session.get(Account, number, options=[selectinload(Account.entries)])
        if account is None:
            raise HTTPException(404, f"no account {number}")
        amounts = [entry.amount for entry in account.entries]
    told = {"owner": account.owner, "balance": account.balance, "entries": len(amounts)}
    return JSONResponse({**told, "sum": sum(amounts)})


async def write_entry(request: Request) -> JSONResponse:
    """Put an amount on an account; 409 where that would overdraw it or the key was used."""
    body = await _body(request)
    async with database.sessions().begin() as session:
        number = request.path_params["account"]
        account = await database.add_entry(session, number, body["amount"], body["key"])
        if account is None:
            raise HTTPException(404, f"no account {number}")
        balance = account.balance
    return JSONResponse({"balance": balance}, status_code=201)


async def page_entries(request: Request) -> JSONResponse:
    """The entries after an id, a page of them."""
    after, limit = (int(request.query_params[name]) for name in ("after", "limit"))
    asked = (
        select(Entry)
        .where(Entry.account_id == request.path_params["account"], Entry.id > after)
        .order_by(Entry.id)
        .limit(limit)
    )
    async with database.sessions()() as session:
        found = (await session.scalars(asked)).all()
    return JSONResponse([[entry.id, entry.key, entry.amount] for entry in found])


async def stream_entries(request: Request) -> StreamingResponse:
    """All entries, a line for each, read while they are sent; the last line is their number."""
    asked = select(Entry).where(Entry.account_id == request.path_params["account"])

    async def lines() -> AsyncIterator[str]:
        count = 0
        async with database.sessions()() as session:
            rows = await session.stream_scalars(
                asked.order_by(Entry.id).execution_options(yield_per=_AT_ONCE)
            )
            async for entry in rows:
                count += 1
                yield f"{json.dumps([entry.key, entry.amount])}\n"
        yield f"{count}\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


async def total(_request: Request) -> JSONResponse:
    """The sum of all balances and that of all entries, in one statement: they must be equal."""
    balances = select(func.coalesce(func.sum(Account.balance), 0)).scalar_subquery()
    entries = select(func.coalesce(func.sum(Entry.amount), 0)).scalar_subquery()
    async with database.sessions()() as session:
        row = (await session.execute(select(balances, entries))).one()
    return JSONResponse({"balances": int(row[0]), "entries": int(row[1])})


async def hand_over(request: Request) -> JSONResponse:
    """Let the worker put an amount on an account; 202 only when the broker has the message."""
    body = await _body(request)
    actor = tasks.ACTORS[request.path_params["actor"]]
    arguments = (request.path_params["account"], body["amount"], body["key"])
    # Speaking with the broker blocks.
    message = await run_in_threadpool(actor.send, *arguments)
    return JSONResponse({"message": message.message_id}, status_code=202)


async def digest(request: Request) -> JSONResponse:
    """The SHA-256 of a body of any length."""
    seen, size = hashlib.sha256(), 0
    async for chunk in request.stream():
        seen.update(chunk)
        size += len(chunk)
    return JSONResponse({"sha256": seen.hexdigest(), "size": size})


async def sleep(request: Request) -> JSONResponse:
    """A statement that takes its time, given up after ``within`` seconds: 504."""
    seconds, within = (float(request.query_params[name]) for name in ("seconds", "within"))
    try:
        async with asyncio.timeout(within), database.sessions()() as session:
            await session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
    except TimeoutError:
        raise HTTPException(504, "given up") from None
    return JSONResponse({"slept": seconds})


async def fail(_request: Request) -> JSONResponse:
    """Raise what nobody handles: 500."""
    raise RuntimeError("this endpoint always fails")


async def _body(request: Request) -> dict[str, Any]:
    try:
        body: dict[str, Any] = await request.json()
    except ValueError:
        raise HTTPException(400, "not JSON") from None
    return body


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": type(error).__name__}, status_code=409)


async def _unavailable(_request: Request, error: Exception) -> JSONResponse:
    """503 where the database or the broker went away; it may have done what it was asked to."""
    if isinstance(error, DBAPIError) and not database.is_gone(error):
        raise error
    return JSONResponse({"error": type(error).__name__}, status_code=503)


@contextlib.asynccontextmanager
async def _lifespan(_app: Starlette) -> AsyncIterator[None]:
    yield
    await database.dispose()


def make_app() -> Starlette:
    """An application for one event loop."""
    account = "/accounts/{account:int}"
    routes = [
        Route("/health", health),
        Route("/accounts", open_account, methods=["POST"]),
        Route(account, read_account),
        Route(f"{account}/entries", write_entry, methods=["POST"]),
        Route(f"{account}/entries", page_entries),
        Route(f"{account}/stream", stream_entries),
        Route(f"{account}/jobs/{{actor}}", hand_over, methods=["POST"]),
        Route("/total", total),
        Route("/digest", digest, methods=["POST"]),
        Route("/sleep", sleep),
        Route("/fail", fail),
    ]
    handlers = {
        IntegrityError: _refused,
        DBAPIError: _unavailable,
        # A connection that was idle when the server ended it is for a moment neither of use nor
        # closed; asyncpg then raises this, and SQLAlchemy does not take it for a lost connection.
        asyncpg.InternalClientError: _unavailable,
        OSError: _unavailable,
        redis.ConnectionError: _unavailable,
    }
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=_lifespan)
