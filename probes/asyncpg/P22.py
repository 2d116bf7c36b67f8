# /// script
# requires-python = ">=3.14"
# dependencies = ["asyncpg==0.32.0"]
#
# [tool.freewheel.probe]
# defect = "P22"
# title = "a request to cancel takes another way than the connection, with or without TLS"
# releases = ">=0.31,<=0.32.0"
# use = "supported"
# passes = "a statement that times out is cancelled, and the connection goes on"
# fails-by = ["wrong answer"]
# needs = ["postgresql"]
# runs = { baseline = 10, patched = 15 }
# seconds = 60
# ///
"""P22: a request to cancel takes another way than the connection, with or without TLS.

Releases:   asyncpg 0.31.0 and 0.32.0, with the GIL as well.
Symptom:    a statement times out, or its task is cancelled: the connection is terminated, or the
            next operation raises; and the server goes on with the statement. It happens with
            servers and proxies that take only one of TLS at once, TLS after a question, and none.
Cause:      whether to use TLS for the request is decided again, by what was asked for and not by
            what the connection has: never TLS at once, TLS first if that is preferred (even if it
            has just failed), no TLS if that is allowed.

Shows:      proxies before the server, each of which accepts one way. A statement times out there.
            (Their TLS needs no certificate: it is anonymous.)

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import asyncio
import contextlib
import os
import ssl
import struct
import sys
from urllib.parse import urlsplit

WRONG, NOT_RUN = 3, 77
PATIENCE = 20  # seconds
QUESTION = struct.pack("!ll", 8, 80877103)  # whether the server speaks TLS


def anonymous(protocol):
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")
    return context


async def forward(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


class Proxy:
    """Takes connections to the server in one way alone."""

    def __init__(self, way, address):
        self.way, self.address = way, address

    async def serve(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if self.way != "at once":
                first = await reader.readexactly(8)
                if first == QUESTION:
                    writer.write(b"S")
                    if self.way == "none":  # it says that it does, but it does not
                        return writer.close()
                    await writer.start_tls(anonymous(ssl.PROTOCOL_TLS_SERVER))
                    first = b""
                elif self.way == "asked":
                    return writer.close()
            else:
                first = b""
            reader_2, writer_2 = await asyncio.open_connection(*self.address)
            writer_2.write(first)
            await asyncio.gather(forward(reader, writer_2), forward(reader_2, writer))
        writer.close()
        return None


async def use(asyncpg, options, address):
    """What is wrong with a connection whose statement times out."""
    way = options.pop("way")
    proxy = Proxy(way, address)
    tls = anonymous(ssl.PROTOCOL_TLS_SERVER) if way == "at once" else None
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    connection = await asyncpg.connect(host="127.0.0.1", port=port, **options)
    with contextlib.suppress(TimeoutError):
        await connection.execute("SELECT pg_sleep(600)", timeout=0.2)
    try:
        async with asyncio.timeout(PATIENCE):
            return None if await connection.fetchval("SELECT 1") == 1 else "not 1"
    except Exception as error:
        return repr(error)
    finally:
        connection.terminate()
        server.close()


async def check(asyncpg, dsn):
    problems = []
    parts = urlsplit(dsn)
    who = {"user": parts.username, "password": parts.password, "database": parts.path[1:]}
    client = anonymous(ssl.PROTOCOL_TLS_CLIENT)
    ways = [
        {"way": "at once", "ssl": client, "direct_tls": True},
        {"way": "asked", "ssl": client},
    ]
    if tuple(map(int, asyncpg.__version__.split("+")[0].split("."))) >= (0, 32, 0):
        ways.append({"way": "none", "ssl": "prefer"})  # 0.31.0 does not connect then
    for options in ways:
        name = f"TLS {options['way']}, {options['ssl']}"
        if problem := await use(asyncpg, who | options, (parts.hostname, parts.port)):
            problems.append(f"{name}: {problem}")
    return problems


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("P22: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN
    import asyncpg

    problems = asyncio.run(check(asyncpg, dsn))
    for problem in problems:
        print(f"P22: {problem}"[:200])
    print(f"P22: {len(problems)} problems")
    return WRONG if problems else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # tasks may be waiting for what never comes
