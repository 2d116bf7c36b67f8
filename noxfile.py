"""The sessions of Freewheel: install what is locked, then one call of src/freewheel/."""

import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2026.10.20"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "tests"]

PINS = Path("src/freewheel/pins")
TOOLS = PINS / "tools.txt"
DEVELOPMENT = PINS / "development.txt"
SERVER = PINS / "server.txt"

RECIPES = {
    path.stem: tomllib.loads(path.read_text(encoding="utf-8"))
    for path in sorted(Path("recipes").glob("*.toml"))
}


def freewheel(session: nox.Session, *words: str, lock: Path = TOOLS) -> None:
    """Run the command line from this checkout, with the locked tools."""
    session.install("--quiet", "--require-hashes", "-r", str(lock))
    session.run("python", "-m", "freewheel", *words, *session.posargs, env={"PYTHONPATH": "src"})


def build_session(project: str, summary: str) -> None:
    """Define the session that builds one recipe."""

    @nox.session(name=f"build-{project}")
    def build_project(session: nox.Session) -> None:
        freewheel(session, "build", project)

    build_project.__doc__ = (
        f"Build {project}: {summary}; -- --release X, --all-releases, --baseline"
    )


@nox.session
def build(session: nox.Session) -> None:
    """Build the default release of every recipe into wheels/ and the static index."""
    freewheel(session, "build")


for name, recipe in RECIPES.items():
    build_session(name, recipe["project"]["summary"])


@nox.session
def doctor(session: nox.Session) -> None:
    """Say what this machine has, what a build would choose and why, and what is missing."""
    freewheel(session, "doctor")


@nox.session
def publish(session: nox.Session) -> None:
    """Upload the wheels with twine, to the server of `nox -s serve` or to your own index."""
    freewheel(session, "publish", lock=SERVER)


@nox.session
def serve(session: nox.Session) -> None:
    """Run the private index as a server on this machine, until interrupted; -- --port N."""
    freewheel(session, "serve", lock=SERVER)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the unit tests, then real builds, probes, installs and servers; words go to pytest."""
    session.install("--quiet", "--require-hashes", "-r", str(DEVELOPMENT))
    session.run("python", "-m", "pytest", *session.posargs, env={"PYTHONPATH": "src"})


@nox.session
def lint(session: nox.Session) -> None:
    """Check formatting, style, types and the recipes."""
    session.install("--quiet", "--require-hashes", "-r", str(DEVELOPMENT))
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")


@nox.session(name="bench-build")
def bench_build(session: nox.Session) -> None:
    """Time cold builds against plain cibuildwheel, in turn; -- --pairs N."""
    session.install("--quiet", "--require-hashes", "-r", str(TOOLS))
    session.run("python", "tests/benchmarks/build.py", *session.posargs, env={"PYTHONPATH": "src"})


@nox.session(name="update-pins")
def update_pins(session: nox.Session) -> None:
    """Renew every lock in src/freewheel/pins/ from its input; `git diff` shows what changed."""
    session.install("--quiet", "--require-hashes", "-r", str(TOOLS))
    groups = ["--group=server", "--group=tests", "--group=lint"]
    compile_lock(session, TOOLS, "pyproject.toml")
    compile_lock(session, SERVER, "pyproject.toml", "--group=server", f"--constraint={TOOLS}")
    compile_lock(session, DEVELOPMENT, "pyproject.toml", *groups, f"--constraint={TOOLS}")
    for source in sorted(PINS.rglob("*.in")):
        compile_lock(session, source.with_suffix(".txt"), str(source))


def compile_lock(session: nox.Session, lock: Path, *inputs: str) -> None:
    """Resolve for every platform, with hashes, and without the address of any index."""
    options = ["--quiet", "--upgrade", "--universal", "--python-version=3.11", "--generate-hashes"]
    quiet = ["--no-emit-index-url", "--no-header", "--no-annotate"]
    session.run("uv", "pip", "compile", *options, *quiet, f"--output-file={lock}", *inputs)
