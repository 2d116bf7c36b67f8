"""What two builds of a reproduction have different, and what could not be made different here.

Nothing is taken on trust: both sides are looked at, on the host and in a container, in the way in
which the builds will run there, and a variation counts only where the looks differ.
"""

from __future__ import annotations

import base64
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from freewheel.base import process
from freewheel.base.errors import CommandFailed
from freewheel.machine.engine import Engine, extra_args
from freewheel.machine.host import processors
from freewheel.machine.image import BuilderImage

FIRST, SECOND = "first", "second"

_TIMEOUT = 60.0  # seconds for a look
_ROOM = 2 * 2**30  # bytes that a build may need in memory, where the second one's files are kept
_ATTRIBUTES = Path(".config", "git", "attributes")
_PROJECT = "/project"  # where cibuildwheel builds in the container
_CLOCK = "/freewheel/clock.so"  # where the container sees it

# The second build's clock is 400 days ahead: another day, month and year. Only the time of day is
# touched; Debian's libfaketime 0.9.10 also breaks or hangs what Python 3.11 waits with. It needs no
# symbol but syscall(), so that what the image's compiler makes also loads on the host.
_CLOCK_SOURCE = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, id, now);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        now->tv_sec += 400 * 86400;
    return failed;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    int failed = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec, now->tv_usec = exact.tv_nsec / 1000;
    return failed;
}
time_t time(time_t *kept) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    return kept ? (*kept = exact.tv_sec) : exact.tv_sec;
}
"""
# $1 is the source; binary output of a container's command need not survive every engine.
_COMPILE = """
printf %s "$1" | cc -shared -fPIC -O2 -x c -o /tmp/clock.so - && base64 /tmp/clock.so
"""

# Says what a process at this place sees; $1 is a directory to make files in.
_LOOK = """
mkdir -p "$1/look" && cd "$1/look" || exit 1
for name in one two three four five six seven eight nine ten; do : >$name; done
echo "order of directory entries=$(ls -U | tr '\\n' ' ')"
cd .. && rm -r look
echo "umask=$(umask)"
echo "host name=$(uname -n)"
echo "processors=$(nproc)"
echo "clock=$(date -u +%Y-%m-%d)"
echo "time zone=$(date +%z)"
echo "locale=$LC_ALL $(locale charmap 2>/dev/null)"
echo "hash seed=$PYTHONHASHSEED"
echo "home directory=$HOME"
"""
# $1 is a umask, $2 a host name or nothing; the rest is the command.
_LAUNCH = 'umask "$1"; [ -z "$2" ] || hostname "$2"; shift 2; exec "$@"'

# What a user may have set, and no build may see. Each would break the build or change its bytes.
_NOISE = {
    "CFLAGS": "-O0 -g3 -DNOISE",
    "CPPFLAGS": "-DNOISE",
    "CXXFLAGS": "-O0 -DNOISE",
    "LDFLAGS": "-Wl,--no-such-option",
    "CIBW_BUILD": "nothing",
    "CIBW_BEFORE_BUILD": "false",
    "CIBW_ENVIRONMENT": "CFLAGS=-O0",
    "CIBW_REPAIR_WHEEL_COMMAND": "false",
    "AUDITWHEEL_PLAT": "linux_x86_64",
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple/",
    "PIP_CONSTRAINT": "/nonexistent",
    "PIP_NO_BINARY": ":all:",
    "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple/",
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "apply.whitespace",
    "GIT_CONFIG_VALUE_0": "fix",
    "GIT_CONFIG_KEY_1": "core.attributesFile",
    "SOURCE_DATE_EPOCH": "1",
    "PYTHONPYCACHEPREFIX": "/nonexistent",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """One thing that both builds saw, each in its own way; or ``obstacle`` says why not."""

    name: str
    first: str
    second: str
    obstacle: str = ""

    @property
    def applied(self) -> bool:
        return not self.obstacle

    def __str__(self) -> str:
        if self.applied:
            return f"varied      {self.name}: {self.first} | {self.second}"
        return f"not varied  {self.name}: {self.first}; {self.obstacle}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """How one of the two builds is run.

    ``launcher`` goes before its command. ``environment`` is added to this process's own; None
    takes a variable away. ``engine_args`` are options of each container. ``scratch`` is an empty
    directory of its own.
    """

    name: str
    scratch: Path
    launcher: tuple[str, ...]
    environment: Mapping[str, str | None]
    engine_args: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The two sides, and all that they differ in."""

    first: Side
    second: Side
    variations: tuple[Variation, ...]

    @property
    def clock_varies(self) -> bool:
        """Whether it does so everywhere."""
        return all(each.applied for each in self.variations if each.name.startswith("clock"))


@contextmanager
def varied(engine: Engine, image: BuilderImage) -> Iterator[Pair]:
    """The two sides of a reproduction on this machine, for as long as the block runs.

    ``engine`` and ``image`` are what the builds will use.
    """
    memory = _memory()
    with (
        tempfile.TemporaryDirectory(prefix="fw-") as short,
        tempfile.TemporaryDirectory(prefix="freewheel-reproduction-", dir=memory) as long,
    ):
        launchers, obstacles = _launchers()
        clock, refused = _make_clock(engine, image, Path(short) / "clock.so")
        obstacles |= refused
        sides = []
        for name, scratch in ((FIRST, Path(short)), (SECOND, Path(long) / "a" / "longer" / "path")):
            environment = _environment(name, scratch, clock)
            args, refused = _accepted(engine, image, _engine_args(engine, name, clock))
            obstacles |= refused
            side = Side(
                name=name,
                scratch=scratch,
                launcher=launchers[name],
                environment=environment | {"FREEWHEEL_ENGINE_ARGS": _joined(args)},
                engine_args=args,
            )
            for directory in ("HOME", "TMPDIR"):
                Path(environment[directory] or "").mkdir(parents=True)
            # git finds this one in the home directory, and by the name that a variable gives it.
            attributes = Path(environment["HOME"] or "", _ATTRIBUTES)
            attributes.parent.mkdir(parents=True)
            attributes.write_text("* text eol=crlf\n" if name == SECOND else "", encoding="utf-8")
            sides.append(side)
        if memory is None:
            obstacles["order of directory entries, host"] = "no file system in memory has room"
        first, second = sides
        looks = [_look(side, engine, image) for side in sides]
        variations = compare(looks[0], looks[1], obstacles)
        yield Pair(first=first, second=second, variations=variations)


def compare(
    first: Mapping[str, str], second: Mapping[str, str], obstacles: Mapping[str, str]
) -> tuple[Variation, ...]:
    """A variation for each thing that was looked at; one that is the same has an obstacle.

    ``obstacles`` are reasons that are known, by the thing's name.
    """
    return tuple(
        Variation(
            name=name,
            first=value,
            second=second.get(name, ""),
            obstacle=""
            if value != second.get(name, "")
            else obstacles.get(name, "it has no effect here"),
        )
        for name, value in first.items()
    )


# ------------------------------------------------------------------------------------- the host

_PLACES = ("host", "container")


def _launchers() -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """What goes before the command of each side, and what this machine does not allow."""
    obstacles: dict[str, str] = {}
    uts: tuple[str, ...] = ("unshare", "--uts")
    if not _works([*uts, "hostname", "freewheel-second"]):
        obstacles["host name, host"] = "`unshare --uts` is not permitted"
        uts = ()
    numbers = processors()
    one: tuple[str, ...] = ("taskset", "--cpu-list", str(numbers[-1]))
    if len(numbers) == 1 or not _works([*one, "true"]):
        why = "there is one processor" if len(numbers) == 1 else "there is no taskset"
        obstacles |= {f"processors, {where}": why for where in _PLACES}
        one = ()
    names = {FIRST: "freewheel-first" if uts else "", SECOND: "second.example" if uts else ""}
    return {
        FIRST: (*uts, "sh", "-c", _LAUNCH, "sh", "0022", names[FIRST]),
        SECOND: (*one, *uts, "sh", "-c", _LAUNCH, "sh", "0077", names[SECOND]),
    }, obstacles


def _environment(name: str, scratch: Path, clock: Path | None) -> dict[str, str | None]:
    own: dict[str, str | None] = {
        "HOME": str(scratch / "home"),
        "TMPDIR": str(scratch / "tmp"),
        **{variable: str(place) for variable, place in _kept_places().items()},
        **_words(name),
    }
    if name == SECOND:
        own |= _NOISE
        own |= {"GIT_CONFIG_VALUE_1": str(scratch / "home" / _ATTRIBUTES)}
        own |= {"LD_PRELOAD": str(clock)} if clock else {}
    return own


def _words(name: str) -> dict[str, str]:
    """The variables that host and container have alike; the zones need no zone files."""
    if name == FIRST:
        return {"TZ": "FWA+11", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "1"}
    return {"TZ": "FWB-13:45", "LC_ALL": "C", "PYTHONHASHSEED": "4294967295"}


def _kept_places() -> dict[str, Path]:
    """Where the engine keeps its images and contexts, which would be lost with the home."""
    home = Path.home()
    defaults = {
        "XDG_DATA_HOME": home / ".local" / "share",
        "XDG_CONFIG_HOME": home / ".config",
        "DOCKER_CONFIG": home / ".docker",
    }
    places = {name: Path(os.environ.get(name) or place) for name, place in defaults.items()}
    # Podman stops at a Docker configuration that is named and not there.
    return {name: place for name, place in places.items() if place.is_dir()}


def _memory() -> Path | None:
    """A file system in memory, whose directories list in another order than those on a disk."""
    place = Path("/dev/shm")  # noqa: S108  files go into a directory of one's own there
    if sys.platform != "linux" or not place.is_dir() or not os.access(place, os.W_OK):
        return None
    # Wheels are checked there too, so code from there must load.
    usable = not os.statvfs(place).f_flag & os.ST_NOEXEC and shutil.disk_usage(place).free >= _ROOM
    return place if usable else None


def _works(command: Sequence[str]) -> bool:
    try:
        return process.run(command, timeout=_TIMEOUT, check=False).returncode == 0
    except CommandFailed:
        return False


# -------------------------------------------------------------------------------- the container


def _engine_args(engine: Engine, name: str, clock: Path | None) -> dict[str, tuple[str, ...]]:
    """Options of the container by what they vary."""
    args = {
        "host name": (f"--hostname={name}.example",),
        "words": tuple(f"--env={key}={value}" for key, value in _words(name).items()),
        "umask": ("--umask=0022" if name == FIRST else "--umask=0077",),
    }
    if name == SECOND:
        args["order of directory entries"] = (f"--tmpfs={_PROJECT}:exec",)
        if engine.name == "docker":
            # Its containers are children of the daemon, and inherit nothing from us.
            args["processors"] = (f"--cpuset-cpus={max(processors())}",)
        if clock:
            args["clock"] = (f"--volume={clock}:{_CLOCK}:ro", f"--env=LD_PRELOAD={_CLOCK}")
    return args


def _accepted(
    engine: Engine, image: BuilderImage, groups: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The options with which a container starts, and why the others are left out."""
    args: list[str] = []
    obstacles: dict[str, str] = {}
    for name, group in groups.items():
        try:
            _run(engine, image, group, "true")
        except CommandFailed as error:
            said = (error.output.strip().splitlines() or [error.summary])[0]
            obstacles[f"{name}, container"] = f"{engine.name}: {said}"
        else:
            args += group
    return tuple(args), obstacles


def _make_clock(
    engine: Engine, image: BuilderImage, target: Path
) -> tuple[Path | None, dict[str, str]]:
    """Compile the library that sets the clock forward, or say why there is none."""
    try:
        said = _run(engine, image, (), "sh", "-c", _COMPILE, "sh", _CLOCK_SOURCE)
    except CommandFailed:
        why = "the image has no C compiler that makes the library for it"
        return None, {f"clock, {where}": why for where in _PLACES}
    target.write_bytes(base64.b64decode(said))
    return target, {}


def _run(engine: Engine, image: BuilderImage, args: Iterable[str], *command: str) -> str:
    words = ("run", "--rm", "--network=none", *engine.create_args, *args, image.reference)
    return engine.call(*words, *command, timeout=_TIMEOUT).stdout


def _joined(args: Sequence[str]) -> str:
    return shlex.join((*extra_args(os.environ), *args))


# -------------------------------------------------------------------------------------- the looks


def _look(side: Side, engine: Engine, image: BuilderImage) -> dict[str, str]:
    """What the side's build will see, by name; looked at from where the build will be started."""
    look = ("sh", "-c", _LOOK, "sh")
    host = process.run(
        [*side.launcher, *look, side.environment["TMPDIR"] or ""],
        env=side.environment,
        timeout=_TIMEOUT,
    ).stdout
    words = ("run", "--rm", "--network=none", *engine.create_args, *side.engine_args)
    inside = process.run(
        [*side.launcher, engine.name, *words, image.reference, *look, _PROJECT],
        env={**side.environment, **engine.environment},
        timeout=_TIMEOUT,
    ).stdout
    noise = ", ".join(sorted(_NOISE)) if side.name == SECOND else "as you have them"
    return {
        "checkout, cache and temporary files, host": str(side.scratch),
        **_answers(host, "host"),
        "variables that no build may see, host": noise,
        **{
            name: value
            for name, value in _answers(inside, "container").items()
            if not name.startswith("home")
        },
    }


def _answers(said: str, place: str) -> dict[str, str]:
    """``name=value`` lines as a mapping, with the place in each name."""
    pairs = (line.partition("=") for line in said.splitlines())
    return {f"{name}, {place}": value.strip() for name, separator, value in pairs if separator}
