"""A CPython that is compiled here: whole or absent, and refused where it will not do."""

import hashlib
import tarfile
from collections.abc import Callable
from importlib.resources import files as resources
from pathlib import Path

import pytest

from freewheel.base.errors import ProofError
from freewheel.base.workspace import Workspace
from freewheel.machine import debian
from freewheel.machine.compiled import Variant, compiled
from freewheel.machine.cpython import CPython, archive_of
from tests.benchmarks import default_cpython

VARIANT = Variant(
    name="for a test",
    options=("--one",),
    free_threaded=False,
    minutes=1,
    log="test.log",
    kept=("Tools/list.txt",),
)
# What configure, make and make install do in the tree of a test: the "interpreter" is a script
# that answers as it is told.
CONFIGURE = """#!/bin/sh
set -e
echo "$@" > options
for word; do case "$word" in --prefix=*) prefix="${word#--prefix=}" ;; esac; done
printf 'all:\n\techo "$(CHOSEN)" > chosen\n' > Makefile
printf 'install:\n\tmkdir -p "$(DESTDIR)%s/bin"\n' "$prefix" >> Makefile
printf '\tcp options chosen interpreter "$(DESTDIR)%s/bin/"\n' "$prefix" >> Makefile
printf '\tmv "$(DESTDIR)%s/bin/interpreter" "$(DESTDIR)%s/bin/python3.14"\n' \
    "$prefix" "$prefix" >> Makefile
"""
FACTS = (
    '{"version": "3.14.9", "build": "b", "minor": [3, 14], "implementation": "cpython",'
    ' "free_threaded": %s, "gil": true, "failed": {}}'
)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CPython]:
    """Makes an archive that is built in a moment, in the cache of the workspace."""
    monkeypatch.setattr(debian, "can_install", lambda: False)

    def make(*, configure: str = CONFIGURE, free_threaded: str = "false") -> CPython:
        tree = tmp_path / "Python-3.14.9"
        (tree / "Tools").mkdir(parents=True, exist_ok=True)
        (tree / "Tools" / "list.txt").write_text("kept\n")
        for name, text in (
            ("configure", configure),
            ("interpreter", f"#!/bin/sh\necho '{FACTS % free_threaded}'\n"),
        ):
            (tree / name).write_text(text)
            (tree / name).chmod(0o755)
        digest = hashlib.sha256((configure + free_threaded).encode()).hexdigest()
        cpython = CPython(version="3.14.9", sha256=digest, paths=())
        archive = archive_of(workspace(tmp_path), cpython)
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive, "w:xz") as tar:
            tar.add(tree, arcname=tree.name)
        return cpython

    return make


def workspace(tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path, cache=tmp_path / "cache", data=tmp_path / "data")


def test_it_is_built_once_with_its_options_and_variables(
    tmp_path: Path, source: Callable[..., CPython]
) -> None:
    here, home, cpython = workspace(tmp_path), tmp_path / "cache" / "built", source()

    made = compiled(here, cpython, VARIANT, home, variables={"CHOSEN": "in {tree}"})
    archive_of(here, cpython).unlink()
    again = compiled(here, cpython, VARIANT, home, variables={})

    assert made == again
    assert (made.path, made.version) == (home / "bin" / "python3.14", "3.14.9")
    assert (home / "bin" / "options").read_text().split() == [
        "--quiet",
        f"--prefix={home}",
        "--one",
    ]
    assert (home / "bin" / "chosen").read_text().startswith(f"in {home}")
    assert (home / "list.txt").read_text() == "kept\n"
    assert [path.name for path in home.parent.iterdir() if path.name.startswith("built")] == [
        "built"
    ]


def test_one_that_cannot_be_built_leaves_nothing_that_counts(
    tmp_path: Path, source: Callable[..., CPython]
) -> None:
    broken = source(configure="#!/bin/sh\necho no compiler here\nexit 1\n")
    home = tmp_path / "cache" / "built"

    with pytest.raises(ProofError, match="could not be built for a test") as error:
        compiled(workspace(tmp_path), broken, VARIANT, home, variables={})

    assert "no compiler here" in error.value.output
    assert not home.exists()


def test_one_of_the_wrong_kind_is_refused_and_taken_away(
    tmp_path: Path, source: Callable[..., CPython]
) -> None:
    home = tmp_path / "cache" / "built"
    wrong = source(free_threaded="true")

    with pytest.raises(ProofError, match="will not do") as error:
        compiled(workspace(tmp_path), wrong, VARIANT, home, variables={})

    assert "is a free-threaded build" in " ".join(error.value.problems)
    assert not home.exists()


def test_the_default_build_differs_from_the_images_in_nothing_but_the_gil() -> None:
    pin = resources("freewheel") / "pins" / "image" / "Containerfile"
    lines = pin.read_text(encoding="utf-8").partition("./configure")[2].partition("&&")[0]
    options = [word for word in lines.split() if word.startswith("--") and word != "--quiet"]

    assert [option for option in options if not option.startswith("--prefix")] == [
        "--disable-gil",
        *default_cpython._VARIANT.options,
    ]
