"""The lines that a build prints, done as they say, in a fresh environment, without the GIL."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from uv import find_uv_bin

from freewheel.machine.interpreter import Interpreter
from freewheel.publish.server import RunningServer, start_server
from tests.integration.conftest import (
    Builder,
    Checkout,
    Environment,
    clean_environment,
    make_environment,
)

pytestmark = pytest.mark.integration

USE_ALL_THREE = r"""
import asyncio, os, re, sys
import asyncpg, greenlet, httptools

async def query():
    connection = await asyncpg.connect(os.environ["DSN"])
    try:
        return await connection.fetchval("SELECT sum(n) FROM generate_series(1, $1) AS n", 100)
    finally:
        await connection.close()

class Seen:
    def on_header(self, name, value):
        self.header = (name, value)

seen = Seen()
httptools.HttpRequestParser(seen).feed_data(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
main = greenlet.getcurrent()
there = greenlet.greenlet(lambda word: main.switch(word + " there") + " again")

assert asyncio.run(query()) == 5050
assert seen.header == (b"Host", b"here")
assert there.switch("hello") == "hello there"
assert there.switch("and back") == "and back again"
assert not sys._is_gil_enabled()
for module in (asyncpg, greenlet, httptools):
    assert re.search(r"\+ft\.\d+$", module.__version__), module.__version__
"""

USE_HTTPTOOLS = """
import sys
import httptools

assert httptools.parse_url(b"http://here/there").path == b"/there"
assert not sys._is_gil_enabled()
assert "+ft." in httptools.__version__
"""


def printed_lines(said: str) -> dict[str, list[str]]:
    """The install lines in the output of a command, by installer."""
    lines = [line.strip() for line in said.splitlines() if "--require-hashes" in line]
    return {shlex.split(line)[0]: shlex.split(line) for line in lines}


def do(line: list[str], environment: Environment, directory: Path) -> None:
    """Type an install line in an activated environment."""
    program = {
        "pip": [str(environment.python), "-m", "pip"],
        "uv": [find_uv_bin()],
    }[line[0]]
    activated = {**clean_environment(), "VIRTUAL_ENV": str(environment.python.parents[1])}
    subprocess.run([*program, *line[1:]], cwd=directory, env=activated, check=True)


@pytest.fixture(scope="module")
def server(proven: Checkout) -> Iterator[RunningServer]:
    running = start_server(proven.workspace, port=0)
    yield running
    running.stop()


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_the_lines_of_a_build_install_wheels_that_work(
    built: Builder, interpreter: Interpreter, postgres: str, tmp_path: Path, installer: str
) -> None:
    three = ("asyncpg", "greenlet", "httptools")
    for project in three:
        built.patched(project)
    said = built.freewheel("build", *three)
    environment = make_environment(tmp_path / "environment", interpreter, ["--seed"])

    do(printed_lines(said)[installer], environment, built.workspace.root)
    done = environment.run("-W", "error", "-c", USE_ALL_THREE, env={"DSN": postgres})

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_the_lines_of_a_publication_install_a_wheel_that_works(
    proven: Checkout,
    interpreter: Interpreter,
    server: RunningServer,
    tmp_path: Path,
    installer: str,
) -> None:
    proven.freewheel("build", "httptools")  # writes the requirements that the lines name
    said = proven.freewheel("publish")
    assert server.simple_url in said
    environment = make_environment(tmp_path / "environment", interpreter, ["--seed"])

    do(printed_lines(said)[installer], environment, proven.workspace.root)
    done = environment.run("-W", "error", "-c", USE_HTTPTOOLS)

    assert done.returncode == 0, done.stderr


def test_publishing_twice_changes_nothing(proven: Checkout, server: RunningServer) -> None:
    proven.freewheel("publish")
    again = proven.freewheel("publish")

    assert server.simple_url in again
    assert "uploaded" not in again
    assert again.count("was there") == 1


def test_a_changed_wheel_does_not_leave_the_machine(
    proven: Checkout, server: RunningServer
) -> None:
    wheel = proven.patched("httptools").wheel
    kept = wheel.read_bytes()
    try:
        wheel.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        said = proven.freewheel("publish", "httptools", code=17)
    finally:
        wheel.write_bytes(kept)

    assert wheel.name in said
    assert server.upload_url not in said


def test_without_a_repository_publishing_says_what_to_do(proven: Checkout, tmp_path: Path) -> None:
    nowhere = {"FREEWHEEL_DATA": str(tmp_path), "HOME": str(tmp_path)}

    said = proven.freewheel("publish", code=19, env=nowhere)

    assert "nox -s serve" in said
    assert "TWINE_REPOSITORY_URL" in said


def test_the_environment_is_as_a_user_has_it() -> None:
    assert "PYTHON_GIL" not in os.environ
