"""The API's process: several event loops, each in a thread of its own, on one port.

Each loop has a socket of its own, and the system spreads connections over them (SO_REUSEPORT).
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import threading

import uvicorn

from .api import make_app
from .collector import collect_often

_BACKLOG = 512


def _listen(port: int) -> socket.socket:
    # asyncio sets TCP_NODELAY only where the socket names its protocol; without that, an answer in
    # two pieces waits for the customer's delayed acknowledgement, 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(_BACKLOG)
    return listener


def main() -> int:
    """Serve until SIGTERM or SIGINT; 0 when every request was answered and every loop ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--loops", type=int, default=2)
    options = parser.parse_args()
    settings = {
        "http": "httptools",
        "loop": "asyncio",
        "lifespan": "on",
        "access_log": False,
        "log_level": "warning",
        "timeout_graceful_shutdown": 10,
    }
    servers = [uvicorn.Server(uvicorn.Config(make_app(), **settings)) for _ in range(options.loops)]
    ended: list[uvicorn.Server] = []

    def run(server: uvicorn.Server) -> None:
        try:
            server.run(sockets=[_listen(options.port)])
            ended.append(server)
        finally:
            stop()

    def stop(*_: object) -> None:
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    collect_often()
    threads = [
        threading.Thread(target=run, args=(server,), name=f"loop {number}")
        for number, server in enumerate(servers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0 if len(ended) == len(servers) else 1


if __name__ == "__main__":
    sys.exit(main())
