"""Where the programs in ``probes/`` run: in a jail, with the servers that they are given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from freewheel.machine.interpreter import files_of
from freewheel.machine.jail import running_jail
from freewheel.machine.postgres import running_postgres
from freewheel.proof.programs import LOAD, Program
from freewheel.proof.running import POSTGRES_DSN, Environment

_Name = TypeVar("_Name")


@contextmanager
def running_services(
    programs: Iterable[Program],
    environments: Mapping[_Name, Environment],
    scratch: Path,
    *,
    readable: Sequence[Path] = (),
    writable: Sequence[Path] = (),
) -> Iterator[tuple[dict[_Name, Environment], dict[str, str]]]:
    """Make a jail for the programs, and start what any of them needs in it.

    They can write to ``scratch`` and ``writable``, though not to the environments, and read
    themselves and ``readable``. Gives the environments with the jail, and the variables that tell
    of the servers.
    """
    wanted = list(programs)
    seen = {LOAD, *readable, *(program.path.parent for program in wanted)}
    for environment in environments.values():
        # The environment itself comes after what it is made of, which may be around it.
        seen |= {*files_of(environment.interpreter.path), environment.python.parents[1]}
    with running_jail(readable=sorted(seen), writable=[scratch, *writable]) as jail:
        placed = {name: replace(one, jail=jail) for name, one in environments.items()}
        if any("postgresql" in program.needs for program in wanted):
            with running_postgres(jail) as dsn:
                yield placed, {POSTGRES_DSN: dsn}
        else:
            yield placed, {}


def services_of(program: Program, running: Mapping[str, str]) -> Mapping[str, str]:
    """What a program is given of those that run: nothing, if it needs nothing."""
    return running if program.needs else {}
