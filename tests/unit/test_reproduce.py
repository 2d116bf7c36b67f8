"""The gate's pure parts: what counts as varied, what a verdict is, what a report says."""

from __future__ import annotations

from pathlib import Path

import pytest

from freewheel.base.errors import MachineError, ReproduceError
from freewheel.build.job import Job
from freewheel.machine.engine import extra_args
from freewheel.recipe.recipe import load_recipes
from freewheel.trust import reproduce, variation
from tests.unit.wheelmaker import make_wheel

ROOT = Path(__file__).parents[2]


def test_only_what_was_seen_to_differ_counts_as_varied() -> None:
    found = variation.compare(
        {"umask": "0022", "clock": "2026-11-23", "processors": "1"},
        {"umask": "0077", "clock": "2026-11-23", "processors": "1"},
        {"processors": "there is one processor", "umask": "was not asked for"},
    )

    assert [each.applied for each in found] == [True, False, False]
    assert [str(each) for each in found] == [
        "varied      umask: 0022 | 0077",
        "not varied  clock: 2026-11-23; it has no effect here",
        "not varied  processors: 1; there is one processor",
    ]


def test_a_pair_knows_whether_its_clocks_differ(tmp_path: Path) -> None:
    def pair(obstacle: str) -> variation.Pair:
        side = variation.Side(
            name="first", scratch=tmp_path, launcher=(), environment={}, engine_args=()
        )
        clock = variation.Variation(name="clock, host", first="a", second="b", obstacle=obstacle)
        return variation.Pair(first=side, second=side, variations=(clock,))

    assert pair("").clock_varies
    assert not pair("cannot be set").clock_varies


def test_answers_are_read_as_they_were_printed() -> None:
    said = "umask=0022\nlocale=C.UTF-8 UTF-8\nnoise\norder of directory entries=a b=c \n"

    assert variation._answers(said, "host") == {
        "umask, host": "0022",
        "locale, host": "C.UTF-8 UTF-8",
        "order of directory entries, host": "a b=c",
    }


def test_only_places_that_exist_are_kept_with_another_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".config").mkdir()

    assert variation._kept_places() == {"XDG_CONFIG_HOME": tmp_path / ".config"}


def test_engine_args_are_split_as_a_shell_does() -> None:
    assert extra_args({}) == ()
    assert extra_args({"FREEWHEEL_ENGINE_ARGS": "--env='A=b c' --umask=0077"}) == (
        "--env=A=b c",
        "--umask=0077",
    )
    with pytest.raises(MachineError, match="No closing quotation"):
        extra_args({"FREEWHEEL_ENGINE_ARGS": "--env='A"})


def test_the_users_engine_args_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEWHEEL_ENGINE_ARGS", "--dns=none")

    assert variation._joined(["--env=A=b c"]) == "--dns=none '--env=A=b c'"


def test_another_file_name_is_named(tmp_path: Path) -> None:
    first = make_wheel(tmp_path, "demo", "1.0", tag="cp314-cp314t-manylinux_2_17_x86_64")
    second = make_wheel(tmp_path, "demo", "1.0", tag="cp314-cp314t-manylinux_2_28_x86_64")

    lines = reproduce.explain(first, second)

    assert lines[0] == f"file name: {first.name}, now {second.name}"
    assert lines[1].startswith("content: demo-1.0.dist-info/WHEEL: ")


def test_what_is_no_wheel_is_said(tmp_path: Path) -> None:
    first = make_wheel(tmp_path / "a", "demo", "1.0")
    second = tmp_path / first.name
    second.write_bytes(first.read_bytes()[:100])

    (line,) = reproduce.explain(first, second)

    assert line.startswith("one of the two cannot be read")


@pytest.mark.parametrize(
    ("builds", "failed", "verdict"),
    [(2, False, "identical"), (2, True, "different"), (1, True, "failed"), (0, True, "failed")],
)
def test_verdicts(tmp_path: Path, builds: int, *, failed: bool, verdict: str) -> None:
    (recipe, *_) = load_recipes(ROOT / "recipes", ROOT / "patches")
    job = Job(recipe=recipe, release=recipe.default_release, baseline=False, target="t")
    build = reproduce.Build(path=tmp_path, sha256="", seconds=1.0)

    reproduction = reproduce.Reproduction(
        job=job,
        builds=(build,) * builds,
        variations=(),
        error=ReproduceError("no") if failed else None,
    )

    assert reproduction.verdict == verdict
