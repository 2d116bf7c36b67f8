"""What the audit reads: each form of input, for the target, and what it says of broken ones."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest

from freewheel.audit.inputs import reading
from freewheel.audit.inputs.locked import Given, Locked, Selection
from freewheel.audit.target import Target
from freewheel.base.errors import AuditError
from tests.unit.wheelmaker import make_wheel

LINUX = Target("cp314t", "manylinux_x86_64")
MAC = Target("cp314t", "macosx_arm64")
SHARED = Path(__file__).parents[3] / "shared" / "locks"

UV_LOCK = """\
version = 1
revision = 3
requires-python = ">=3.14"

[[package]]
name = "app"
version = "1.0"
source = { virtual = "." }
dependencies = [
    { name = "alpha" },
    { name = "win-only", marker = "sys_platform == 'win32'" },
    { name = "fork", version = "1.0", marker = "sys_platform == 'linux'" },
    { name = "fork", version = "2.0", marker = "sys_platform == 'darwin'" },
    { name = "withextra", extra = ["fast"] },
    { name = "from-git" },
]

[package.optional-dependencies]
postgres = [{ name = "driver" }]

[package.dev-dependencies]
dev = [{ name = "checker" }]
docs = [{ name = "writer" }]

[[package]]
name = "alpha"
version = "1.2"
source = { registry = "https://x.invalid/simple" }
dependencies = [{ name = "beta", marker = "python_full_version < '3.14'" }]
sdist = { url = "https://x.invalid/alpha-1.2.tar.gz", hash = "sha256:aa" }
wheels = [{ url = "https://x.invalid/alpha-1.2-py3-none-any.whl", hash = "sha256:bb" }]

[[package]]
name = "beta"
version = "1.0"
source = { registry = "https://x.invalid/simple" }

[[package]]
name = "win-only"
version = "1.0"
source = { registry = "https://x.invalid/simple" }

[[package]]
name = "fork"
version = "1.0"
source = { registry = "https://x.invalid/simple" }
resolution-markers = ["sys_platform == 'linux'"]

[[package]]
name = "fork"
version = "2.0"
source = { registry = "https://x.invalid/simple" }
resolution-markers = ["sys_platform == 'darwin'"]

[[package]]
name = "withextra"
version = "3.0"
source = { registry = "https://x.invalid/simple" }

[package.optional-dependencies]
fast = [{ name = "gamma" }]
other = [{ name = "beta" }]

[[package]]
name = "gamma"
version = "1.0"
source = { registry = "https://x.invalid/simple" }

[[package]]
name = "driver"
version = "1.0"
source = { registry = "https://x.invalid/simple" }

[[package]]
name = "checker"
version = "1.0"
source = { registry = "https://x.invalid/simple" }

[[package]]
name = "writer"
version = "1.0"
source = { registry = "https://x.invalid/simple" }

[[package]]
name = "from-git"
version = "0.1"
source = { git = "https://g.invalid/it.git?rev=1#abc" }
"""

PYLOCK = """\
lock-version = "1.0"
requires-python = ">=3.14"
extras = ["fast"]
dependency-groups = ["dev"]
default-groups = ["dev"]
created-by = "a test"

[[packages]]
name = "alpha"
version = "1.2"
[[packages.wheels]]
name = "alpha-1.2-py3-none-any.whl"
url = "https://x.invalid/alpha-1.2-py3-none-any.whl"
hashes = { sha256 = "bb" }

[[packages]]
name = "win-only"
version = "1.0"
marker = "sys_platform == 'win32'"
sdist = { url = "https://x.invalid/win_only-1.0.tar.gz", hashes = { sha256 = "cc" } }

[[packages]]
name = "gamma"
version = "1.0"
marker = "'fast' in extras"
sdist = { url = "https://x.invalid/gamma-1.0.tar.gz", hashes = { sha256 = "cc" } }

[[packages]]
name = "checker"
version = "1.0"
marker = "'dev' in dependency_groups"
sdist = { url = "https://x.invalid/checker-1.0.tar.gz", hashes = { sha256 = "cc" } }

[[packages]]
name = "from-git"
vcs = { type = "git", url = "https://g.invalid/it.git", commit-id = "abc" }
"""

POETRY_LOCK = """\
[[package]]
name = "alpha"
version = "1.2"
optional = false
python-versions = ">=3.9"
groups = ["main"]
files = [{ file = "alpha-1.2-py3-none-any.whl", hash = "sha256:bb" }]

[[package]]
name = "win-only"
version = "1.0"
optional = false
python-versions = "*"
groups = ["main"]
markers = "sys_platform == 'win32'"
files = []

[[package]]
name = "checker"
version = "1.0"
optional = false
python-versions = "*"
groups = ["dev"]
files = []

[[package]]
name = "gamma"
version = "1.0"
optional = true
python-versions = "*"
groups = ["main"]
files = []

[extras]
fast = ["gamma"]

[metadata]
lock-version = "2.1"
python-versions = "^3.12"
content-hash = "00"
"""

PIPFILE_LOCK = json.dumps(
    {
        "_meta": {"hash": {"sha256": "00"}, "pipfile-spec": 6, "requires": {}, "sources": []},
        "default": {
            "alpha": {"version": "==1.2", "hashes": ["sha256:bb"]},
            "win-only": {"version": "==1.0", "markers": "sys_platform == 'win32'"},
            "from-git": {"git": "https://g.invalid/it.git", "ref": "abc"},
        },
        "develop": {"checker": {"version": "==1.0"}},
    }
)


def read(
    tmp_path: Path, name: str, text: str, target: Target = LINUX, **selection: object
) -> Given:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return reading.read(path, target, Selection(**selection))  # type: ignore[arg-type]


def names(given: Given) -> dict[str, str]:
    return {entry.name: entry.version for entry in given.distributions}


def entry(given: Given, name: str) -> Locked:
    (found,) = [one for one in given.distributions if one.name == name]
    return found


# ------------------------------------------------------------------------------------------ uv.lock


def test_uv_lock_brings_what_markers_extras_and_forks_bring_to_the_target(tmp_path: Path) -> None:
    linux = names(read(tmp_path, "any-name", UV_LOCK))
    mac = names(read(tmp_path, "uv.lock", UV_LOCK, MAC))

    shared = {"alpha": "1.2", "withextra": "3.0", "gamma": "1.0", "from-git": "0.1"}
    assert linux == {**shared, "fork": "1.0", "checker": "1.0"}
    assert mac == {**shared, "fork": "2.0", "checker": "1.0"}


def test_groups_and_extras_are_chosen_as_in_uv(tmp_path: Path) -> None:
    def extra_names(**selection: object) -> set[str]:
        given = read(tmp_path, "uv.lock", UV_LOCK, LINUX, **selection)
        return set(names(given)) & {"checker", "writer", "driver"}

    assert extra_names() == {"checker"}
    assert extra_names(dev=False) == set()
    assert extra_names(groups=("docs",)) == {"checker", "writer"}
    assert extra_names(extras=("postgres",), dev=False) == {"driver"}
    assert extra_names(all_groups=True, all_extras=True) == {"checker", "writer", "driver"}


def test_default_groups_are_those_of_the_project_beside_the_lock(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.uv]\ndefault-groups = ["docs"]\n')

    found = names(read(tmp_path, "uv.lock", UV_LOCK))

    assert "writer" in found
    assert "checker" not in found


def test_a_script_has_its_requirements_in_the_lock_itself(tmp_path: Path) -> None:
    head, packages = UV_LOCK.split("[[package]]", 1)
    packages = "[[package]]" + packages.split("[[package]]", 1)[1]
    text = (
        f'{head}[manifest]\nrequirements = [{{ name = "withextra", extra = ["fast"] }}]\n{packages}'
    )

    assert names(read(tmp_path, "uv.lock", text)) == {"withextra": "3.0", "gamma": "1.0"}


def test_development_and_sources_are_reported(tmp_path: Path) -> None:
    given = read(tmp_path, "uv.lock", UV_LOCK)

    assert entry(given, "checker").development
    assert not entry(given, "gamma").development
    assert entry(given, "from-git").source == "git"
    assert entry(given, "from-git").where.startswith("https://g.invalid/")
    assert [file.sha256 for file in entry(given, "alpha").files] == ["bb", "aa"]
    assert "postgres" in given.notes[0]
    assert "docs" in given.notes[0]


def test_a_lock_for_other_interpreters_is_read_and_says_so(tmp_path: Path) -> None:
    given = read(tmp_path, "uv.lock", UV_LOCK.replace('">=3.14"', '"==3.12.*"'))

    assert "==3.12.*" in given.notes[0]
    assert not entry(given, "alpha").complete
    assert entry(read(tmp_path, "uv.lock", UV_LOCK), "alpha").complete


# --------------------------------------------------------------------------------- the other locks


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.lock", PYLOCK), ("b.lock", POETRY_LOCK), ("c.lock", PIPFILE_LOCK)],
)
def test_other_locks_bring_what_their_markers_and_groups_say(
    tmp_path: Path, name: str, text: str
) -> None:
    everything = names(read(tmp_path, name, text))
    production = names(read(tmp_path, name, text, dev=False))

    assert everything["alpha"] == "1.2"
    assert "checker" in everything
    assert "checker" not in production
    assert "win-only" not in everything
    assert "gamma" not in everything
    assert "win-only" in names(read(tmp_path, name, text, Target("cp314t", "win_amd64")))


@pytest.mark.parametrize(("name", "text"), [("a.lock", PYLOCK), ("b.lock", POETRY_LOCK)])
def test_an_extra_brings_its_distributions(tmp_path: Path, name: str, text: str) -> None:
    assert "gamma" in names(read(tmp_path, name, text, extras=("fast",)))


def test_git_is_reported_in_every_lock_that_can_have_it(tmp_path: Path) -> None:
    for name, text in (("a.lock", PYLOCK), ("c.lock", PIPFILE_LOCK)):
        assert entry(read(tmp_path, name, text), "from-git").source == "git"


# ------------------------------------------------------------------------------ requirements files


def test_a_requirements_file_with_hashes_includes_and_constraints(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("beta==2.0 ; sys_platform == 'linux'\n")
    (tmp_path / "limits.txt").write_text("gamma==3.0\n")
    text = (
        "--index-url https://x.invalid/simple\n"
        "# a comment\n"
        "Alpha_One==1.2 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb  # pinned\n"
        "-r more.txt\n-c limits.txt\n"
        "gamma\n"
        "delta>=4,<5\n"
        "win-only==1 ; sys_platform == 'win32'\n"
        "git+https://g.invalid/it.git@abc#egg=from-git\n"
        "-e ./local\n"
        "direct @ https://x.invalid/direct-1.0-py3-none-any.whl\n"
    )

    given = read(tmp_path, "requirements.txt", text)

    assert names(given) == {
        "alpha-one": "1.2",
        "beta": "2.0",
        "gamma": "3.0",
        "delta": "",
        "from-git": "",
        "local": "",
        "direct": "",
    }
    assert entry(given, "alpha-one").hashes == {"aa", "bb"}
    assert str(entry(given, "delta").wanted) == "<5,>=4"
    assert entry(given, "from-git").source == "git"
    assert entry(given, "local").source == "path"
    assert entry(given, "direct").source == "url"


def test_a_wrong_requirement_is_reported_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(AuditError) as failure:
        read(tmp_path, "requirements.txt", "alpha==1.0\n\nbeta ==== what\n")

    assert "requirements.txt:3" in str(failure.value)


# ------------------------------------------------------------------------- environments and wheels


def make_environment(tmp_path: Path, wheel: Path, python: str = "python3.14t") -> Path:
    """An environment in which a wheel was installed, as far as files go."""
    environment = tmp_path / "environment"
    site = environment / "lib" / python / "site-packages"
    site.mkdir(parents=True, exist_ok=True)
    (environment / "pyvenv.cfg").write_text("version = 3.14.7\n")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        (record,) = [n for n in archive.namelist() if n.endswith(".dist-info/RECORD")]
    installer = record.replace("RECORD", "INSTALLER")
    (site / installer).write_text("a test\n")
    with (site / record).open("a") as file:
        file.write(f"{installer},,\n")
    return environment


def test_an_environment_says_what_is_installed(tmp_path: Path) -> None:
    extension = "spam/_fast.cpython-314t-x86_64-linux-gnu.so"
    wheel = make_wheel(tmp_path, "spam", "1.0", members={"spam/__init__.py": "", extension: "x"})
    environment = make_environment(tmp_path, wheel)

    given = reading.read(environment, LINUX, Selection())

    (found,) = given.distributions
    assert (found.name, found.version, found.source) == ("spam", "1.0", "environment")
    assert found.installed is not None
    assert found.installed.extensions == (extension,)
    assert found.installed.tags == ("cp314-cp314t-manylinux_2_17_x86_64",)


def test_an_environment_of_another_interpreter_is_a_list_of_releases(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "spam", "1.0")

    given = reading.read(make_environment(tmp_path, wheel, "python3.12"), LINUX, Selection())

    assert "cp312" in given.notes[0]
    assert given.distributions[0].installed is None
    assert given.distributions[0].version == "1.0"


def test_an_editable_installation_is_a_link_to_its_sources(tmp_path: Path) -> None:
    environment = make_environment(tmp_path, make_wheel(tmp_path, "spam", "1.0"))
    (info,) = environment.glob("lib/*/site-packages/spam-1.0.dist-info")
    (info / "direct_url.json").write_text(
        json.dumps({"url": "file:///srv/spam", "dir_info": {"editable": True}})
    )

    (found,) = reading.read(environment, LINUX, Selection()).distributions

    assert (found.source, found.where, found.installed) == ("path", "file:///srv/spam", None)


def test_an_interpreter_stands_for_its_environment(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "spam", "1.0")
    environment = make_environment(tmp_path, wheel)
    (environment / "bin").mkdir()
    (environment / "bin" / "python").symlink_to(sys.executable)

    given = reading.read(environment / "bin" / "python", LINUX, Selection())

    assert names(given) == {"spam": "1.0"}


def test_a_wheel_is_reported_by_its_contents(tmp_path: Path) -> None:
    given = reading.read(make_wheel(tmp_path, "spam", "1.0"), LINUX, Selection())

    assert names(given) == {"spam": "1.0"}
    assert given.form == "wheel"


# ----------------------------------------------------------------------------------- broken inputs


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("uv.lock", UV_LOCK[: UV_LOCK.index("https://x.invalid/alpha-1.2.tar") + 9], "cut short"),
        ("uv.lock", UV_LOCK[: UV_LOCK.rindex("[[package]]")], "from-git is needed"),
        ("uv.lock", UV_LOCK[: UV_LOCK.index("[[package]]")] + "package = []", "cut short"),
        ("uv.lock", UV_LOCK.replace("version = 1\n", "version = 9\n", 1), "version 9 of uv.lock"),
        ("uv.lock", UV_LOCK.replace("sys_platform == 'win32'", "sys platform"), "not a marker"),
        (
            "uv.lock",
            UV_LOCK.replace('name = "alpha"\nversion', 'called = "alpha"\nversion'),
            "name",
        ),
        ("pylock.toml", PYLOCK.replace('"1.0"', '"7.0"', 1), "version 7.0 of pylock.toml"),
        ("pylock.toml", PYLOCK.replace('created-by = "a test"', ""), "created-by"),
        ("poetry.lock", POETRY_LOCK.replace('"2.1"', '"9.0"'), "version 9.0 of poetry.lock"),
        ("Pipfile.lock", PIPFILE_LOCK[:-20], "cut short"),
        ("Pipfile.lock", PIPFILE_LOCK.replace(": 6", ": 99"), "version 99 of Pipfile.lock"),
        ("package-lock.json", '{"lockfileVersion": 3}', "no Pipfile.lock"),
        ("pyproject.toml", '[project]\nname = "app"\n', "uv lock"),
        ("pdm.lock", '[metadata]\nlock_version = "4.5"\n', "pdm export"),
        ("empty.txt", "  \n", "empty"),
        ("story.txt", "Once upon a time there was a lock.\n", "story.txt:1"),
    ],
)
def test_what_cannot_be_read_says_what_and_what_next(
    tmp_path: Path, name: str, text: str, told: str
) -> None:
    with pytest.raises(AuditError) as failure:
        read(tmp_path, name, text)

    assert told in str(failure.value)
    assert name in str(failure.value)
    assert failure.value.hint


def test_missing_and_binary_files_and_other_directories(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "cut.whl").write_bytes(b"PK\x03\x04 and then nothing")
    (tmp_path / "uv.lock").write_text(UV_LOCK)

    for path, told in (
        (tmp_path / "nothing", "cannot be read"),
        (tmp_path / "binary", "neither text nor a wheel"),
        (tmp_path / "cut.whl", "cut short"),
        (tmp_path, "uv.lock"),
    ):
        with pytest.raises(AuditError) as failure:
            reading.read(path, LINUX, Selection())
        assert told in str(failure.value)


def test_an_unknown_group_or_extra_is_reported_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(AuditError) as failure:
        read(tmp_path, "uv.lock", UV_LOCK, groups=("tests",), extras=("mysql",))

    assert "no group 'tests'" in str(failure.value)
    assert "postgres" in str(failure.value)
    assert "docs" in str(failure.value)


@pytest.mark.parametrize(
    ("name", "text", "last"),
    [("uv.lock", UV_LOCK, "#abc"), ("poetry.lock", POETRY_LOCK, "lock-version")],
)
def test_a_lock_that_was_cut_anywhere_is_never_taken_for_a_whole_one(
    tmp_path: Path, name: str, text: str, last: str
) -> None:
    for length in range(0, text.index(last), 7):
        with pytest.raises(AuditError):
            read(tmp_path, name, text[:length])


@pytest.mark.skipif(not SHARED.is_dir(), reason="the two real locks are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "count", "production"), [("paperless", 235, 196), ("saleor", 228, 145)]
)
def test_the_real_locks_are_read_whole(name: str, count: int, production: int) -> None:
    given = reading.read(SHARED / f"{name}.uv.lock", LINUX, Selection())

    assert len(given.distributions) == count
    assert sum(not one.development for one in given.distributions) == production
