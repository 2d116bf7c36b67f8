"""Recipes: what is valid is typed, and what is not is named with its file, its path and a mend."""

from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest

from freewheel.base.errors import RecipeError
from freewheel.recipe.building import Vendored
from freewheel.recipe.recipe import choose_recipe, load_recipe, load_recipes

ROOT = Path(__file__).parents[2]

VALID = """\
[project]
name = "speedy"
summary = "something fast"
import-name = "speedy"
source-url = "https://example.org/speedy"

[build]
version = [{ file = "speedy/__init__.py", pattern = "__version__ = '{version}'" }]
requires = ["setuptools"]
targets = ["cp314t-manylinux_x86_64"]

[releases."1.9.0"]
sha256 = "1111111111111111111111111111111111111111111111111111111111111111"
released = 2026-01-02T03:04:05Z
revision = 1
patches = ["0001-first.patch", "0002-second.patch"]

[releases."1.10.0"]
sha256 = "2222222222222222222222222222222222222222222222222222222222222222"
released = 2026-02-02T03:04:05+01:00
revision = 3
patches = []

[[releases."1.10.0".vendored]]
name = "tiny"
version = "2.1"
licence = "mit and apache-2.0"
path = "vendor/tiny"
purl = "pkg:github/example/tiny@v2.1"
"""

SUITE = """\
[suite]
tests = "src/speedy/tests"
package = "speedy.tests"
needs = ["postgresql-programs"]
unprivileged = true
seconds = 60
environment = { SPEEDY_VERSION = "{version}" }
skip = [{ tests = ["*test_docs*"], reason = "checks the sources, not the wheel" }]
failing = [
    { tests = ["*test_old"], reason = "an old mistake of its own", releases = "<1.10" },
    { tests = ["*test_any"], reason = "asks for Windows by mistake" },
]
expects-defect = [
    { tests = ["*test_leak"], reason = "it expects a leak", message = "no leak was found*" },
]

[suite.parallel]
threads = 4
tests = ["test_a.py::*", "test_b.py::*"]
thread-safe-because = "it does nothing that is not safe"
warm-up = "speedy.warm_up"
needs = ["postgresql-server"]
environment = { SPEEDY_FAST = "1" }
skip = [{ tests = ["*test_env*"], reason = "sets variables of the process" }]
"""


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    series = tmp_path / "patches" / "speedy" / "1.9.0"
    series.mkdir(parents=True)
    (series / "0001-first.patch").touch()
    (series / "0002-second.patch").touch()
    return tmp_path / "patches"


def write(tmp_path: Path, text: str = VALID, name: str = "speedy.toml") -> Path:
    directory = tmp_path / "recipes"
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(text)
    return path


def problems(tmp_path: Path, patches: Path, text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, text), patches)
    return list(caught.value.problems)


def test_a_valid_recipe_becomes_typed_values(tmp_path: Path, patches: Path) -> None:
    recipe = load_recipe(write(tmp_path), patches)

    assert recipe.name == "speedy"
    older = recipe.release("1.9.0")
    assert older.released == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert older.source_date_epoch == 1767323045
    assert older.local_version == "1.9.0+ft.1"
    assert older.sdist_name == "speedy-1.9.0.tar.gz"
    assert [path.name for path in older.patches] == ["0001-first.patch", "0002-second.patch"]


def test_vendored_parts_belong_to_their_release(tmp_path: Path, patches: Path) -> None:
    recipe = load_recipe(write(tmp_path), patches)

    assert recipe.release("1.9.0").vendored == ()
    assert recipe.release("1.10.0").vendored == (
        Vendored(
            name="tiny",
            version="2.1",
            licence="MIT AND Apache-2.0",
            path="vendor/tiny",
            purl="pkg:github/example/tiny@v2.1",
        ),
    )


def test_a_vendored_part_needs_no_package_url(tmp_path: Path, patches: Path) -> None:
    text = VALID.replace('purl = "pkg:github/example/tiny@v2.1"\n', "")

    (part,) = load_recipe(write(tmp_path, text), patches).release("1.10.0").vendored
    assert part.purl == ""


def test_vendored_parts_are_in_order_each_once(tmp_path: Path, patches: Path) -> None:
    part = VALID[VALID.index("[[releases") :]

    assert problems(tmp_path, patches, VALID + part) == [
        'speedy.toml: releases."1.10.0".vendored: must be in order, each once: tiny'
    ]


def test_a_recipe_need_not_have_a_suite(tmp_path: Path, patches: Path) -> None:
    assert load_recipe(write(tmp_path), patches).suite is None


def test_a_suite_has_two_passes(tmp_path: Path, patches: Path) -> None:
    suite = load_recipe(write(tmp_path, VALID + SUITE), patches).suite

    assert suite is not None
    assert (suite.tests, suite.package) == (PurePosixPath("src/speedy/tests"), "speedy.tests")
    assert (suite.unprivileged, suite.seconds) == (True, 60)
    assert (suite.ordinary.threads, suite.ordinary.thread_safe_because) == (1, "")
    assert suite.ordinary.needs == ("postgresql-programs",)
    assert suite.ordinary.tests == ("*",)
    assert suite.ordinary.environment == {"SPEEDY_VERSION": "{version}"}
    assert suite.parallel is not None
    assert suite.parallel.threads == 4
    assert suite.parallel.warm_up == "speedy.warm_up"
    assert suite.parallel.thread_safe_because == "it does nothing that is not safe"
    assert suite.parallel.needs == ("postgresql-server",)
    assert suite.parallel.tests == ("test_a.py::*", "test_b.py::*")
    # What holds for the suite holds for its parallel part too; only the failures are its own.
    assert suite.parallel.environment == {"SPEEDY_VERSION": "{version}", "SPEEDY_FAST": "1"}
    assert [known.tests for known in suite.parallel.skip] == [("*test_docs*",), ("*test_env*",)]
    assert suite.parallel.failing == ()
    (outdated,) = suite.ordinary.expects_defect
    assert outdated.fits("no leak was found in f")
    assert not outdated.fits("SIGSEGV")


def test_what_is_known_of_a_test_may_concern_some_releases(tmp_path: Path, patches: Path) -> None:
    suite = load_recipe(write(tmp_path, VALID + SUITE), patches).suite

    assert suite is not None
    older, newer = (suite.ordinary.concerning(version, "3.14") for version in ("1.9.0", "1.10.0"))
    assert [known.tests for known in older.failing] == [("*test_old",), ("*test_any",)]
    assert [known.tests for known in newer.failing] == [("*test_any",)]
    assert newer.failing[0].matches("test_a.py::Case::test_any")
    assert not newer.failing[0].matches("test_a.py::Case::test_any2")


def test_what_is_known_of_a_test_may_concern_some_interpreters(
    tmp_path: Path, patches: Path
) -> None:
    text = SUITE.replace('*test_any"]', '*test_any"], requires-python = ">=3.15"', 1)
    assert text != SUITE
    suite = load_recipe(write(tmp_path, VALID + text), patches).suite

    assert suite is not None
    assert suite.ordinary.concerning("1.10.0", "3.14").failing == ()
    assert len(suite.ordinary.concerning("1.10.0", "3.15").failing) == 1


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "expects-defect",
            "expect-defect",
            "suite.expect-defect: unknown key; did you mean expects-defect?",
        ),
        ("package", "pakage", "suite.pakage: unknown key; did you mean package?"),
        ("threads = 4", "thread = 4", "suite.parallel.thread: unknown key; did you mean threads?"),
        ("threads = 4", "threads = 1", "suite.parallel.threads: input should be greater than or"),
        ("reason = ", "why = ", "suite.skip.0.why: unknown key; known are tests, reason"),
        ('"checks the sources, not the wheel"', '"slow"', "suite.skip.0.reason: string should"),
        (', message = "no leak was found*"', "", "suite.expects-defect.0.message: missing"),
        ('"<1.10"', '"old"', "suite.failing.0.releases: must be version specifiers"),
        ('"src/speedy/tests"', '"../tests"', "suite.tests: must be a path inside the source tree"),
        ('"postgresql-programs"', '"oracle"', "suite.needs.0: input should be 'postgresql-"),
        ("seconds = 60", "seconds = 0", "suite.seconds: input should be greater than 0"),
        ("SPEEDY_FAST", "speedy-fast", "environment.speedy-fast: must be the name of a variable"),
        ('["test_a.py::*", "test_b.py::*"]', "[]", "suite.parallel.tests: needs at least 1, has 0"),
    ],
)
def test_each_fault_of_a_suite_is_named_with_its_path(
    tmp_path: Path, patches: Path, old: str, new: str, expected: str
) -> None:
    assert old in SUITE
    assert expected in "\n".join(problems(tmp_path, patches, VALID + SUITE.replace(old, new, 1)))


def test_the_newest_release_is_the_default_by_version_not_by_text(
    tmp_path: Path, patches: Path
) -> None:
    recipe = load_recipe(write(tmp_path), patches)

    assert recipe.default_release.version == "1.10.0"
    assert recipe.default_release.local_version == "1.10.0+ft.3"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "summary =",
            "sumary =",
            "speedy.toml: project.sumary: unknown key; did you mean summary?",
        ),
        ("revision = 3", "revison = 3", 'releases."1.10.0".revison: unknown key; did you mean rev'),
        ("[build]", "[built]", "speedy.toml: built: unknown key; did you mean build?"),
        (
            "revision = 3",
            'revision = "3"',
            'releases."1.10.0".revision: input should be a valid int',
        ),
        ("revision = 3", "revision = 0", 'releases."1.10.0".revision: must be from 1 to 99999'),
        ('"2222', '"222', 'releases."1.10.0".sha256: must be 64 hexadecimal digits, is'),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05", 'releases."1.9.0".released: needs an off'),
        ("2026-01-02T03:04:05Z", '"2026-01-02"', 'releases."1.9.0".released: must be a date and'),
        ("'{version}'", "'1.0'", "build.version.0: \"__version__ = '1.0'\" must contain {version}"),
        ('"speedy/__init__.py"', '"../x"', "build.version.0.file: must be a path inside the sour"),
        (
            "file =",
            "fil =",
            "build.version.0.fil: unknown key; did you mean file?",
        ),
        (
            "{ file",
            '{ variable = "A", file',
            "build.version.0: needs one of file, variable and attribute",
        ),
        ("'{version}'", "'{versoin}'", "must contain {version}"),
        ("'{version}'", "'{version} {x}'", "other braces are written twice"),
        (
            '{ file = "speedy/__init__.py", pattern',
            '{ attribute = "__version__", pattern',
            "build.version: no file and no variable in it takes the local version",
        ),
        ('["setuptools"]', '["wheel", "setuptools"]', "build.requires: must be in order, each on"),
        (
            "requires = [",
            'environment = { CPPFLAGS = "-g" }\nrequires = [',
            "build.environment.CPPFLAGS: the pipeline sets it itself",
        ),
        (
            'name = "speedy"',
            'name = "Speedy"',
            "project.name: must be in normalised form: 'speedy'",
        ),
        ('name = "speedy"', 'name = "quick"', "project.name: is 'quick', but the file is called"),
        ('releases."1.10.0"', 'releases."1.10.0+ft.1"', "a local version; name the upstream"),
        ('releases."1.10.0"', 'releases."01.10"', "write the version in normal form, 1.10"),
        ('releases."1.10.0"', 'releases."latest"', 'releases."?latest"?: not a version'),
        ('["cp314t-manylinux_x86_64"]', "[]", "build.targets: names no target"),
        ('["cp314t-manylinux_x86_64"]', '["linux"]', "build.targets.0: must be a build identifier"),
        (
            "licence =",
            "license =",
            'releases."1.10.0".vendored.0.license: unknown key; did you mean licence?',
        ),
        ('path = "vendor', 'path = "/vendor', "vendored.0.path: must be a path inside the source"),
        ('"mit and', '"made up and', "vendored.0.licence: must be an SPDX licence expression"),
        ('"pkg:github', '"github', "vendored.0.purl: must be a package URL with a version"),
        ('version = "2.1"', "version = 2.1", "vendored.0.version: input should be a valid string"),
        ('version = "2.1"\n', "", "vendored.0.version: missing"),
    ],
)
def test_each_fault_is_named_with_its_path(
    tmp_path: Path, patches: Path, old: str, new: str, expected: str
) -> None:
    assert old in VALID
    found = problems(tmp_path, patches, VALID.replace(old, new))

    text = "\n".join(found)
    assert expected.replace('"?', '"') in text or expected.replace('"?', "") in text


@pytest.mark.parametrize("key", ["sha256", "released", "revision", "patches"])
def test_a_missing_key_of_a_release_is_named(tmp_path: Path, patches: Path, key: str) -> None:
    lines = VALID.splitlines()
    start = lines.index('[releases."1.10.0"]')
    lines = lines[:start] + [line for line in lines[start:] if not line.startswith(key)]

    assert problems(tmp_path, patches, "\n".join(lines)) == [
        f'speedy.toml: releases."1.10.0".{key}: missing'
    ]


def test_all_problems_of_a_file_come_at_once(tmp_path: Path, patches: Path) -> None:
    text = VALID.replace("summary =", "sumary =").replace("revision = 3", "revison = 3")

    found = problems(tmp_path, patches, text)

    # Each misspelling is also a key that is missing.
    assert len(found) == 4


def test_a_listed_patch_must_exist(tmp_path: Path, patches: Path) -> None:
    (patches / "speedy" / "1.9.0" / "0002-second.patch").rename(
        patches / "speedy" / "1.9.0" / "0002-secnod.patch"
    )

    assert problems(tmp_path, patches, VALID) == [
        (
            'speedy.toml: releases."1.9.0".patches: 0002-second.patch is listed, '
            "but there is no such file; did you mean 0002-secnod.patch?"
        ),
        (
            'speedy.toml: releases."1.9.0".patches: 0002-secnod.patch lies in 1.9.0/, '
            "but is not listed"
        ),
    ]


def test_a_present_patch_must_be_listed(tmp_path: Path, patches: Path) -> None:
    (patches / "speedy" / "1.10.0").mkdir()
    (patches / "speedy" / "1.10.0" / "0001-forgotten.patch").touch()

    assert problems(tmp_path, patches, VALID) == [
        (
            'speedy.toml: releases."1.10.0".patches: 0001-forgotten.patch lies in 1.10.0/, '
            "but is not listed"
        )
    ]


def test_patches_of_a_release_that_does_not_exist_are_reported(
    tmp_path: Path, patches: Path
) -> None:
    (patches / "speedy" / "1.9.1").mkdir()

    assert problems(tmp_path, patches, VALID) == [
        "speedy.toml: releases: patches/speedy/1.9.1 belongs to no release; did you mean 1.9.0?"
    ]


def test_patches_out_of_order_are_reported(tmp_path: Path, patches: Path) -> None:
    text = VALID.replace(
        '"0001-first.patch", "0002-second.patch"', '"0002-second.patch", "0001-first.patch"'
    )

    assert "must be in order" in problems(tmp_path, patches, text)[0]


def test_broken_toml_is_named_with_its_line(tmp_path: Path, patches: Path) -> None:
    assert "line 1" in problems(tmp_path, patches, "[project\n")[0]


def test_the_problems_of_all_files_come_together(tmp_path: Path, patches: Path) -> None:
    write(tmp_path, VALID.replace("summary =", "sumary ="))
    path = write(tmp_path, "[project", name="other.toml")

    with pytest.raises(RecipeError) as caught:
        load_recipes(path.parent, patches)

    assert {problem.split(":")[0] for problem in caught.value.problems} == {
        "speedy.toml",
        "other.toml",
    }


def test_an_unknown_release_names_the_nearest(tmp_path: Path, patches: Path) -> None:
    recipe = load_recipe(write(tmp_path), patches)

    with pytest.raises(RecipeError, match=r"no release '1\.9'.*\n.*use 1\.9\.0"):
        recipe.release("1.9")


def test_an_unknown_project_names_the_nearest(tmp_path: Path, patches: Path) -> None:
    recipe = load_recipe(write(tmp_path), patches)

    with pytest.raises(RecipeError, match="did you mean speedy"):
        choose_recipe([recipe], "spedy")


def test_the_recipes_of_this_checkout_are_valid() -> None:
    recipes = load_recipes(ROOT / "recipes", ROOT / "patches")

    assert {"asyncpg", "greenlet", "httptools"} <= {recipe.name for recipe in recipes}
