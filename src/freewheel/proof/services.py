"""The servers that the programs in ``probes/`` are given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from freewheel.machine.postgres import running_postgres
from freewheel.proof.programs import Program
from freewheel.proof.running import POSTGRES_DSN


@contextmanager
def running_services(programs: Iterable[Program]) -> Iterator[dict[str, str]]:
    """Start what any of the programs needs; gives the environment variables that tell of it."""
    if any("postgresql" in program.needs for program in programs):
        with running_postgres() as dsn:
            yield {POSTGRES_DSN: dsn}
    else:
        yield {}


def services_of(program: Program, running: Mapping[str, str]) -> Mapping[str, str]:
    """What a program is given of those that run: nothing, if it needs nothing."""
    return running if program.needs else {}
