# /// script
# requires-python = ">=3.9"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.benchmark]
# title = "rows that are decoded, queries and batches, with a loop and a connection per worker"
# use = "supported"
# needs = ["postgresql"]
# seconds = 30
# [tool.freewheel.benchmark.cases]
# numbers = "decode a row of int, bigint, double precision and bool, from recorded answers"
# texts = "decode a row of 4 texts, from recorded answers"
# mixed = "decode a row of int, text, timestamptz, uuid, numeric and null, from recorded answers"
# query = "ask PostgreSQL for a single value by a prepared statement"
# many = "send a row of 3 values to PostgreSQL with executemany()"
# alone = "make a Decimal of a text, without asyncpg: what the interpreter reaches in mixed"
# ///
"""What asyncpg costs. `nox -s bench-asyncpg` measures it; docs/benchmarks.md has the figures.

A server, which has to make rows before they can be decoded, would be what is measured. So rows are
fetched from a server only once, and what it sent is recorded. From then on a transport in the same
process gives these answers to whatever asyncpg writes: all else is as in an application, from
connect() to fetch(). The other cases use the server, which wants its share of the processors.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import os
import struct
from decimal import Decimal

import asyncpg

ROWS = 2000  # in each recorded answer
QUERIES = 50
BATCH = 500

# What a server sends to begin a session that needs no password.
WELCOME = b"".join(
    kind + struct.pack("!i", 4 + len(body)) + body
    for kind, body in (
        (b"R", struct.pack("!i", 0)),
        (b"S", b"client_encoding\0UTF8\0"),
        (b"S", b"server_version\x0017.0\0"),
        (b"K", struct.pack("!ii", 1, 1)),
        (b"Z", b"I"),
    )
)


def numbers():
    return _decode("i, i::int8 * 4294967296, i / 7::float8, i % 2 = 0")


def texts():
    return _decode("i::text, md5(i::text), repeat('a', i % 40), 'déjà vu ' || i")


def mixed():
    return _decode(
        "i, md5(i::text), '2026-11-25 12:00+00'::timestamptz + i * interval '1 second',"
        " md5(i::text)::uuid, i / 7.0, NULL::int"
    )


def query():
    async def prepare(connection):
        statement = await connection.prepare("SELECT $1::int")

        async def ask():
            for number in range(QUERIES):
                await statement.fetchval(number)
            return QUERIES

        return ask

    return _steps(asyncio.new_event_loop(), prepare)


def many():
    rows = [(number, str(number), number / 7) for number in range(BATCH)]

    async def prepare(connection):
        await connection.execute("CREATE TEMP TABLE many (a int, b text, c float8)")

        async def send():
            await connection.executemany("INSERT INTO many VALUES ($1, $2, $3)", rows)
            await connection.execute("TRUNCATE many")
            return BATCH

        return send

    return _steps(asyncio.new_event_loop(), prepare)


def alone():
    text = str(1 / 7)
    while True:
        for _ in range(ROWS):
            Decimal(text)
        yield ROWS


def _decode(columns):
    text = f"SELECT {columns} FROM generate_series(1, {ROWS}) AS i"  # noqa: S608

    async def prepare(connection):
        statement = await connection.prepare(text)

        async def fetch():
            rows = await statement.fetch()
            if len(rows) != ROWS:
                raise RuntimeError(f"{len(rows)} rows")
            return ROWS

        await fetch()  # for the recording
        return fetch

    with asyncio.Runner(loop_factory=RecordingLoop) as runner:
        loop = runner.get_loop()
        runner.run(_connect_and(prepare))
    return _steps(ReplayingLoop(loop.recorder.answers), prepare)


async def _connect_and(prepare):
    connection = await asyncpg.connect(os.environ["FREEWHEEL_POSTGRES_DSN"], ssl=False)
    return connection, await prepare(connection)


def _steps(loop, prepare):
    connection, step = loop.run_until_complete(_connect_and(prepare))
    try:
        while True:
            yield loop.run_until_complete(step())
    finally:
        connection.terminate()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


# --------------------------------------------------------------------- recording and replaying


def question(data):
    """What asyncpg asks for: "welcome", "P" to parse and describe, "B" to bind and execute."""
    kind = bytes(data[:1])
    return "welcome" if kind == b"\0" else kind.decode()


class Recorder(asyncio.Protocol):
    """Passes everything on to asyncpg's protocol, and keeps the answers to each question."""

    def __init__(self, protocol):
        self.protocol = protocol
        self.answers = {}
        self.current = []

    def ask(self, data):
        self.current = self.answers[question(data)] = []

    def connection_made(self, transport):
        write = transport.write

        def recorded(data):
            self.ask(data)
            write(data)

        transport.write = recorded
        self.protocol.connection_made(transport)

    def data_received(self, data):
        self.current.append(data)
        self.protocol.data_received(data)

    def connection_lost(self, error):
        self.protocol.connection_lost(error)

    def eof_received(self):
        return self.protocol.eof_received()

    def pause_writing(self):
        self.protocol.pause_writing()

    def resume_writing(self):
        self.protocol.resume_writing()


class RecordingLoop(asyncio.SelectorEventLoop):
    """Makes connections that are recorded."""

    recorder = None

    async def create_connection(self, factory, *arguments, **options):
        self.recorder = Recorder(factory())
        transport, _ = await super().create_connection(lambda: self.recorder, *arguments, **options)
        return transport, self.recorder.protocol


class Replay(asyncio.Transport):
    """A server's side of a connection: the recorded answer to each question."""

    def __init__(self, loop, protocol):
        super().__init__()
        self.loop = loop
        self.protocol = protocol
        self.closing = False

    def write(self, data):
        answer = self.loop.answers.get(question(data), ())
        self.loop.call_soon(self.give, answer)

    def writelines(self, buffers):
        self.write(b"".join(buffers))

    def give(self, answer):
        for data in answer:
            self.protocol.data_received(data)

    def is_closing(self):
        return self.closing

    def abort(self):
        if not self.closing:
            self.closing = True
            self.loop.call_soon(self.protocol.connection_lost, None)

    close = abort


class ReplayingLoop(asyncio.SelectorEventLoop):
    """Makes connections to a server that only has these answers."""

    def __init__(self, answers):
        super().__init__()
        self.answers = {**answers, "welcome": [WELCOME]}

    async def create_connection(self, factory, *_arguments, **_options):
        protocol = factory()
        transport = Replay(self, protocol)
        protocol.connection_made(transport)
        return transport, protocol
