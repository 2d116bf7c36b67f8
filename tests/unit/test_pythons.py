"""What follows from an interpreter's tag, and which targets and releases a command line means."""

from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from packaging.specifiers import SpecifierSet

from freewheel.base.errors import BuildError
from freewheel.base.workspace import Workspace
from freewheel.commands import selection
from freewheel.commands.selection import Choice
from freewheel.recipe.pythons import DEFAULT, PYTHONS, Python, python_of
from freewheel.recipe.recipe import load_recipes
from freewheel.recipe.targets import Limit, Targets

ROOT = Path(__file__).parents[2]
CP315T = Python("cp315t")


def test_all_that_is_said_of_an_interpreter_follows_from_its_tag() -> None:
    assert (CP315T.minor, CP315T.version, CP315T.request) == ((3, 15), "3.15", "3.15t")
    assert (CP315T.program, CP315T.prefix) == ("python3.15t", "/opt/python/cp315-cp315t")
    assert (CP315T.with_gil.tag, CP315T.with_gil.program) == ("cp315", "python3.15")
    assert (CP315T.free_threaded, CP315T.with_gil.free_threaded) == (True, False)
    assert python_of("cp315t-musllinux_x86_64") == CP315T


@pytest.mark.parametrize("tag", ["", "3.15", "cp315tt", "pp311", "cp3.15"])
def test_what_is_no_tag_is_refused(tag: str) -> None:
    with pytest.raises(ValueError, match="is not a tag"):
        Python(tag)


@click.command()
@selection.options(targets=True)
@click.option("--more", is_flag=True)
def command(choice: Choice, *, more: bool) -> None:
    click.echo(f"{choice.projects} {choice.versions} {[str(t) for t in choice.targets]} {more}")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], f"() () {[str(DEFAULT)]} False"),
        (["a", "b", "--more"], f"('a', 'b') () {[str(DEFAULT)]} True"),
        (["a", "--release", "1"], f"('a',) ('1',) {[str(DEFAULT)]} False"),
        (["--python", "cp315t"], "() () ['cp315t'] False"),
        (["--all-pythons"], f"() () {[str(python) for python in PYTHONS]} False"),
        (["--target", "cp315t-win_amd64"], "() () ['cp315t-win_amd64'] False"),
    ],
)
def test_the_words_of_a_command_are_one_choice(words: list[str], told: str) -> None:
    done = CliRunner().invoke(command, words)

    assert (done.exit_code, done.output) == (0, told + "\n")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--python", "cp39"], "'cp39' is not one of"),
        (["--python", "cp315t", "--all-pythons"], "exclude each other"),
        (["--target", "cp315t-win_amd64", "--all-pythons"], "exclude each other"),
        (["a", "--release", "1", "--all-releases"], "exclude each other"),
        (["a", "b", "--release", "1"], "needs exactly one project"),
    ],
)
def test_words_that_contradict_each_other_are_refused(words: list[str], problem: str) -> None:
    done = CliRunner().invoke(command, words)

    assert done.exit_code == 2
    assert problem in done.output


# ------------------------------------------------------------------------------------ what is meant


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Two recipes on a machine of the common kind: only httptools 0.9.0 is built for cp315t."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    older = Limit(targets=("cp315t-*",), reason="not made for 3.15", releases=SpecifierSet("<0.9"))
    both = Targets(served=("cp314t-manylinux_x86_64", "cp315t-manylinux_x86_64"), excluded=(older,))
    always = Limit(targets=("cp315t-*",), reason="not made for 3.15")
    one = Targets(served=("cp314t-manylinux_x86_64",), excluded=(always,))
    recipes = [
        replace(recipe, targets=both if recipe.name == "httptools" else one)
        for recipe in load_recipes(ROOT / "recipes", ROOT / "patches")
        if recipe.name in {"greenlet", "httptools"}
    ]
    monkeypatch.setattr(selection, "load_recipes", lambda *_: recipes)
    return Workspace(root=ROOT, cache=tmp_path, data=tmp_path)


def planned(workspace: Workspace, choice: Choice) -> list[str]:
    jobs = selection.plan(workspace, choice, baseline=False)
    return [f"{job.recipe.name} {job.release.version} {job.python}" for job in jobs]


def test_without_a_word_it_is_the_usual_interpreter(workspace: Workspace) -> None:
    assert planned(workspace, Choice(projects=())) == [
        "greenlet 3.5.6 cp314t",
        "httptools 0.9.0 cp314t",
    ]


def test_what_is_not_built_for_an_interpreter_is_left_out_and_said(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = planned(workspace, Choice(projects=(), all_releases=True, targets=PYTHONS))

    assert [line for line in everything if line.endswith("cp315t")] == ["httptools 0.9.0 cp315t"]
    assert "httptools 0.7.1 cp314t" in everything
    said = capsys.readouterr()
    assert "left out: httptools 0.7.1 on cp315t: not made for 3.15" in said.out + said.err


def test_where_nothing_is_left_it_is_an_error(workspace: Workspace) -> None:
    with pytest.raises(BuildError, match="nothing of that is built") as error:
        planned(workspace, Choice(projects=("greenlet",), targets=(CP315T,)))

    assert "greenlet 3.5.6 on cp315t: not made for 3.15" in error.value.problems


def test_a_release_that_is_named_must_be_built_for_it(workspace: Workspace) -> None:
    new = Choice(projects=("httptools",), versions=("0.9.0",), targets=(CP315T,))

    assert planned(workspace, new) == ["httptools 0.9.0 cp315t"]
    with pytest.raises(BuildError, match="no target for cp315t") as error:
        planned(workspace, replace(new, versions=("0.7.1",)))
    assert "not made for 3.15" in error.value.problems
