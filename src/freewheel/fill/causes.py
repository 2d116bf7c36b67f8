"""Why a build failed, in one line, and what to write into a recipe, from what the build printed."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files as resources

from freewheel.recipe.building import SystemPackages

_LONGEST = 200  # characters of a line that is quoted
# What only says that something before it failed.
_NOISE = re.compile(
    r"cibuildwheel: error|CalledProcessError|Backend subprocess exited|BackendUnavailable$|"
    r"error: command '[^']*' failed with exit code|subprocess-exited-with-error|"
    r"metadata-generation-failed|ninja: build stopped|FAILED: |See above for output"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a build failed, and what to do; ``packages`` of the system are what it lacked."""

    cause: str
    remedy: str
    packages: SystemPackages = field(default_factory=SystemPackages)


def explain(output: str, project: str, version: str) -> Cause:
    """The cause in what a build printed; where no rule fits, the last line that speaks of one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("$ ")]  # the commands themselves
    recipe = f"write a recipe: `nox -s freewheel -- new-recipe {project} {version}`"
    for pattern, make in _RULES:
        for line in lines:
            if (match := pattern.search(line)) and not _NOISE.search(line):
                return make(tuple(filter(None, match.groups())), recipe)
    said = [line for line in lines if not _NOISE.search(line)]
    errors = [line for line in said if re.search(r"\b(?:\w*Error|error|Exception)\b", line)]
    last = next(reversed(errors or said), "the build printed nothing")
    return Cause(cause=last[:_LONGEST], remedy=f"{recipe}, and correct that in it")


@cache
def _known() -> dict[str, dict[str, dict[str, list[str]]]]:
    text = (resources("freewheel.fill") / "system_packages.toml").read_text("utf-8")
    return tomllib.loads(text)


def packages_for(kind: str, name: str) -> SystemPackages:
    """The system packages with a header, library, program or pkg-config file; none if unknown."""
    for entry in _known().values():
        if any(re.fullmatch(pattern, name) for pattern in entry.get(kind, ())):
            return SystemPackages(
                **{key: tuple(entry[key]) for key in ("apt", "dnf", "apk") if key in entry}
            )
    return SystemPackages()


def _lacks(kind: str, words: str) -> Callable[[Sequence[str], str], Cause]:
    """A rule for something of the system that is absent."""

    def make(found: Sequence[str], recipe: str) -> Cause:
        name = found[0].rpartition("/")[2] if kind == "programs" else found[0]
        packages = packages_for(kind, name)
        if packages:
            where = f"--system-packages adds {', '.join(packages.apt)}, or in a recipe: "
            remedy = f"{where}build.system-packages = {{ apt = {_listed(packages.apt)} }}"
        else:
            remedy = f"{recipe}, with the package that has {name} in build.system-packages"
        return Cause(cause=f"{words} {name}", remedy=remedy, packages=packages)

    return make


def _listed(names: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def _says(cause: str, remedy: str) -> Callable[[Sequence[str], str], Cause]:
    """A rule whose texts take what the pattern found as {0}, {1}, and the recipe as {recipe}."""

    def make(found: Sequence[str], recipe: str) -> Cause:
        words = [*(word[:_LONGEST] for word in found), "", "", ""]
        return Cause(
            cause=cause.format(*words, recipe=recipe).strip(" :"),
            remedy=remedy.format(*words, recipe=recipe),
        )

    return make


def _rules() -> Iterator[tuple[re.Pattern[str], Callable[[Sequence[str], str], Cause]]]:
    header = _lacks("headers", "the compiler lacks the header")
    package = _lacks("pkg-config", "pkg-config lacks")
    program = _lacks("programs", "the build lacks the program")
    rust = _says(
        "it is written in Rust, and its sdist does not bring the crates that it needs",
        "raise to a release with a wheel; or {recipe}, with its crates in the source and an image "
        "that has Rust (FREEWHEEL_IMAGE)",
    )
    yield (
        re.compile(r"no end after (\d+) s"),
        _says(
            "the build did not end within {0} s",
            "build it on a quieter or larger machine; if it hangs there too, {recipe}",
        ),
    )
    yield (
        re.compile(r"Killed signal terminated|virtual memory exhausted|^MemoryError"),
        _says("the compiler ran out of memory", "build it on a machine with more memory"),
    )
    yield (
        re.compile(r"No space left on device"),
        _says("the disk is full", "make room, and run the same command again"),
    )
    yield (
        re.compile(
            r"[Ff]ork: (?:retry|Resource)|can't start new thread|BlockingIOError: \[Errno 11"
        ),
        _says(
            "it started more processes than the container allows",
            "read its setup.py before you build it anywhere else",
        ),
    )
    yield re.compile(r"can't find Rust compiler|[Cc]argo\b.*not (?:found|installed)"), rust
    yield re.compile(r"Rust (?:toolchain )?(?:is )?not found|Rust not found"), rust
    yield (
        re.compile(r"No such file or directory: '(?:cargo|rustc)'|Failed to (?:run|find) `?cargo"),
        rust,
    )
    yield re.compile(r"puccinialin|rustup"), rust
    yield (
        re.compile(
            r"(?:Could not resolve host:? |Failed to resolve '|host=')([\w.-]+)"
            r"|(?:Temporary failure in name resolution|Network is unreachable|urlopen error)()"
        ),
        _says(
            "its build asks the network: {0}",
            "builds have none; {recipe}, with what it downloads in the source, or a variable in "
            "build.environment that makes it use the system's",
        ),
    )
    yield re.compile(r"fatal error: ([\w./+-]+): No such file or directory"), header
    yield (
        re.compile(r"cannot find -l([\w+.-]+)"),
        _lacks("libraries", "the linker lacks the library"),
    )
    yield re.compile(r"No package '([\w+.-]+)' found"), package
    yield re.compile(r"Package '?([\w+.-]+)'?(?:, required by .*,)? (?:was )?not found"), package
    yield re.compile(r"pkg-config --exists ([\w+.-]+)"), package
    yield re.compile(r"Dependency \"?([\w+.-]+)\"? not found"), package
    yield (
        re.compile(r"Could NOT find (\w+)|package configuration file provided by \"(\w+)\""),
        _lacks("cmake", "CMake does not find"),
    )
    yield re.compile(r"(?:^|: )([\w.+-]+): (?:command )?not found$"), program
    yield re.compile(r"FileNotFoundError:.*No such file or directory: '([\w./+-]+)'"), program
    yield re.compile(r"(pkg-config|\w+[-_]config)\b.*(?:not found|missing|No such)"), program
    yield (
        re.compile(r"pkg-config name\.?$|[Ss]pecify (\w+) and (\w+) env"),
        _says(
            "it does not find its library",
            "{recipe}, with the library in build.system-packages, and {0} and {1} in "
            "build.environment if it still does not",
        ),
    )
    yield (
        re.compile(r"version \(([\d.]+)\) is newer than PyO3's maximum"),
        _says(
            "its PyO3 is older than Python {0}",
            "raise to a release that was made for this Python",
        ),
    )
    yield (
        re.compile(r"No matching distribution found for (\S+)|no version of (\S+)"),
        _says(
            "its build requirement {0} has no wheel for this interpreter",
            "fill that first, or {recipe}, with another version of it in build.requires",
        ),
    )
    yield (
        re.compile(r"^(?:E +)?ModuleNotFoundError: No module named '([\w.]+)'"),
        _says(
            "its build imports {0} and does not ask for it",
            "{recipe}, with {0} in build.requires",
        ),
    )
    yield (
        re.compile(r"required library \"([^\"]+)\" could not be located"),
        _says("the repair does not find {0}", "{recipe}, with its package in system-packages"),
    )
    yield (
        re.compile(r"too-recent versioned symbols"),
        _says(
            "it uses newer symbols of the C library than its platform tag allows",
            "{recipe}, for a newer platform tag",
        ),
    )
    yield (
        re.compile(
            r"^(?:\S*/)?([\w.+-]+\.(?:c|cc|cpp|cxx|h|hh|hpp)):"
            r"(\d+):(?:\d+:)? (?:fatal )?error: (.+)$"
        ),
        _says("{0}:{1}: {2}", "{recipe}, with a patch for that line"),
    )
    yield (
        re.compile(r"^(?:\S*/)?([\w.+-]+\.(?:pyx|pxd)):(\d+):\d+: (.+)$"),
        _says("Cython does not take {0}:{1}: {2}", "{recipe}, with a patch for that line"),
    )


_RULES = tuple(_rules())
