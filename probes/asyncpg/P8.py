# /// script
# requires-python = "==3.14.*"
# dependencies = ["asyncpg==0.31.0"]
#
# [tool.freewheel.probe]
# defect = "P8"
# title = "closing a connection that is lost while a query is being cancelled takes for ever"
# releases = ">=0.31,<0.32"
# use = "supported"
# passes = "close() returns"
# fails-by = ["hang"]
# runs = { baseline = 6, patched = 30 }
# seconds = 60
# needs = ["postgresql"]
# ///
"""P8: closing a connection that is lost while a query is being cancelled takes for ever.

Releases:   asyncpg 0.31.0, also with the GIL; 0.32.0 has mended it.
Use:        a query is cancelled, because of a timeout, say, and the connection closed, as a pool
            does; meanwhile the server is stopped, or the network fails.
Symptom:    close() never returns, and its timeout is of no help.
Cause:      close() waits until the server has answered the cancelled query. That the connection is
            lost does not end this wait, and the server's answer will not come.

Shows:      a relay stands between asyncpg and the server. When asyncpg comes to it with the request
            to cancel the query, it ends the connection with the query instead.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import contextlib
import os
import sys
import urllib.parse

import asyncpg

HANG, NOT_RUN = 5, 77  # docs/probes.md
MEANWHILE = 300  # answers of the server to others: closing takes less than a few


class Relay:
    """Connects the first who comes to the server; the second ends the first one's connection."""

    def __init__(self, host, port):
        self.address = host, port
        self.first = None
        self.cancelled = False
        self.tasks = set()

    async def come(self, reader, writer):
        if self.first:
            self.cancelled = True
            self.first.transport.abort()
            writer.close()
            return
        self.first = writer
        answers, questions = await asyncio.open_connection(*self.address)
        for pair in (reader, questions), (answers, writer):
            task = asyncio.create_task(self.pass_on(*pair))
            self.tasks.add(task)

    async def pass_on(self, reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()


async def run(dsn):
    server = urllib.parse.urlsplit(dsn)
    relay = Relay(server.hostname, server.port or 5432)
    listener = await asyncio.start_server(relay.come, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()
    connection = await asyncpg.connect(dsn, host=host, port=port, ssl=False)
    query = asyncio.create_task(connection.execute("SELECT pg_sleep(1)"))
    await asyncio.sleep(0.1)
    query.cancel()
    await asyncio.wait([query])
    if not query.cancelled() or connection.is_closed():
        print("P8: the query was not cancelled")
        return NOT_RUN
    other = await asyncpg.connect(dsn, ssl=False)
    closing = asyncio.create_task(connection.close())
    for number in range(MEANWHILE):
        await other.fetchval("SELECT $1::int", number)
        if closing.done():
            break
    await other.close()
    closed = closing.done()
    if not relay.cancelled:
        print("P8: nobody asked to cancel the query")
        return NOT_RUN
    print("P8: the connection is", "closed" if closed else f"not closed after {MEANWHILE} answers")
    if not closed:
        return HANG
    await closing
    return 0


async def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("P8: FREEWHEEL_POSTGRES_DSN is not set")
        return NOT_RUN
    code = await run(dsn)
    sys.stdout.flush()
    os._exit(code)  # what hangs would hang on


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
