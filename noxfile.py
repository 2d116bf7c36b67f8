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


# What each project has a session for: the command, and what `nox --list` says of it.
OF_A_PROJECT = {
    "build": "Build {project}: {summary}; -- --release X, --all-releases, --baseline",
    "reproduce": "Build {project} twice, all else varied, and compare; -- --release X, "
    "--all-releases",
    "prove": "Prove {project}'s wheels against unpatched ones; -- --release X, --all-releases, "
    "--quick, --races",
    "bench": "Measure {project}'s patched wheel by the unpatched one; -- --rounds N, --seconds S, "
    "--default-build",
    "soak": "Let {project}'s stress program work for an hour; -- --seconds S, --release X",
    "refresh": "Carry {project}'s newest patches over to another release; -- RELEASE, --continue",
}


def project_session(command: str, project: str, text: str) -> None:
    """Define the session that puts one recipe's project to a command."""

    @nox.session(name=f"{command}-{project}")
    def run(session: nox.Session) -> None:
        freewheel(session, command, project)

    run.__doc__ = text


@nox.session
def build(session: nox.Session) -> None:
    """Build the default release of every recipe into wheels/ and the static index."""
    freewheel(session, "build")


for name, recipe in RECIPES.items():
    for command, text in OF_A_PROJECT.items():
        summary = recipe["project"]["summary"]
        project_session(command, name, text.format(project=name, summary=summary))


@nox.session
def reproduce(session: nox.Session) -> None:
    """Build every recipe's default release twice, all else varied, and compare the bytes."""
    freewheel(session, "reproduce")


@nox.session
def prove(session: nox.Session) -> None:
    """Show that every patch is needed and works, and certify the wheels; -- --quick, --races."""
    freewheel(session, "prove")


@nox.session
def tsan(session: nox.Session) -> None:
    """Look for data races with ThreadSanitizer, for a long time; -- PROJECT, --baseline."""
    freewheel(session, "tsan")


@nox.session
def doctor(session: nox.Session) -> None:
    """Say what this machine has, what a build would choose and why, and what is missing."""
    freewheel(session, "doctor")


@nox.session
def explain(session: nox.Session) -> None:
    """Say what a wheel is made of: its patches and why, its pins, its digest; -- WHEEL."""
    freewheel(session, "explain")


@nox.session
def matrix(session: nox.Session) -> None:
    """Print each wheel of a release with its runner and its gates, as JSON; -- --since COMMIT."""
    freewheel(session, "matrix")


@nox.session
def compare(session: nox.Session) -> None:
    """Compare the wheels of two builders and print their digests; -- DIRECTORY DIRECTORY."""
    freewheel(session, "compare")


@nox.session
def receive(session: nox.Session) -> None:
    """Bring wheels that two builders agreed on into wheels/; -- DIRECTORY."""
    freewheel(session, "receive")


@nox.session
def publish(session: nox.Session) -> None:
    """Upload with twine, to the server of `nox -s serve` or to your own index; -- --rehearse."""
    freewheel(session, "publish", lock=SERVER)


@nox.session
def site(session: nox.Session) -> None:
    """Make wheels/site/: the static index that is served now, with the certified wheels added."""
    freewheel(session, "site")


@nox.session
def serve(session: nox.Session) -> None:
    """Run the private index as a server on this machine, until interrupted; -- --port N."""
    freewheel(session, "serve", lock=SERVER)


@nox.session
def verify(session: nox.Session) -> None:
    """Check a finished wheel with all that lies beside it; -- WHEEL."""
    freewheel(session, "verify")


@nox.session
def rebuild(session: nox.Session) -> None:
    """Build a wheel again from what it records, and compare; -- PATH or URL."""
    freewheel(session, "rebuild")


@nox.session
def attest(session: nox.Session) -> None:
    """Sign in-toto provenance for the wheels, with the key that FREEWHEEL_SIGNING_KEY names."""
    freewheel(session, "attest")


@nox.session
def watch(session: nox.Session) -> None:
    """Say what upstream has released since, and which patches it still needs; -- PROJECT."""
    freewheel(session, "watch")


@nox.session
def issue(session: nox.Session) -> None:
    """Open or update the one issue that says what the watch saw, in a workflow; -- DIRECTORY."""
    freewheel(session, "issue")


@nox.session(name="new-recipe")
def new_recipe(session: nox.Session) -> None:
    """Begin a recipe from what the index and the sdist tell; -- NAME VERSION."""
    freewheel(session, "new-recipe")


@nox.session(name="lock-wheels")
def lock_wheels(session: nox.Session) -> None:
    """Take the digests of the wheels and of their inputs into wheels/known-good.json."""
    freewheel(session, "lock-wheels")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the unit tests, then real builds, probes, installs and servers; words go to pytest."""
    session.install("--quiet", "--require-hashes", "-r", str(DEVELOPMENT))
    session.run("python", "-m", "pytest", *session.posargs, env={"PYTHONPATH": "src"})


@nox.session(name="rehearse-release")
def rehearse_release(session: nox.Session) -> None:
    """Walk through the release workflow on this machine; -- PROJECT, --release X, --races."""
    session.install("--quiet", "--require-hashes", "-r", str(DEVELOPMENT))
    command = ("python", "-m", "tests.rehearsal")
    session.run(*command, *session.posargs, env={"PYTHONPATH": "src"})


@nox.session
def application(session: nox.Session) -> None:
    """Run the application under load on both stacks; -- --upstream, --seconds N, --stack X."""
    session.install("--quiet", "--require-hashes", "-r", str(TOOLS))
    command, environment = ("python", "-m"), {"PYTHONPATH": "src"}
    session.run(*command, "freewheel", "build", "--all-releases", env=environment)
    if "--upstream" in session.posargs:
        # It has no public wheel for this interpreter.
        words = ("build", "httptools", "--release", "0.7.1", "--baseline")
        session.run(*command, "freewheel", *words, env=environment)
    session.run(*command, "tests.application", *session.posargs, env=environment)


@nox.session
def lint(session: nox.Session) -> None:
    """Check formatting, style, types, and the workflows' form and security."""
    session.install("--quiet", "--require-hashes", "-r", str(DEVELOPMENT))
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")
    # What may run on the machines of other targets uses nothing that their systems lack.
    for platform in ("darwin", "win32"):
        session.run("mypy", "--platform", platform, "src")
    workflows = sorted(map(str, Path(".github/workflows").glob("*.yml")))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    actions = sorted(map(str, Path(".github/actions").glob("*/action.yml")))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-actions", *actions)
    # The strictest there is: what could be an error counts as one.
    strictest = ("--offline", "--no-config", "--persona=auditor", "--strict-collection")
    session.run("zizmor", *strictest, ".github")


@nox.session(name="bench-build")
def bench_build(session: nox.Session) -> None:
    """Time cold builds against plain cibuildwheel, in turn; -- --pairs N."""
    session.install("--quiet", "--require-hashes", "-r", str(TOOLS))
    session.run("python", "tests/benchmarks/build.py", *session.posargs, env={"PYTHONPATH": "src"})


@nox.session(name="bench-application")
def bench_application(session: nox.Session) -> None:
    """Requests and jobs a second, ours by the public wheels; -- --rounds N, --default-build."""
    session.install("--quiet", "--require-hashes", "-r", str(TOOLS))
    command, environment = ("python", "-m"), {"PYTHONPATH": "src"}
    session.run(*command, "freewheel", "build", env=environment)
    session.run(*command, "tests.benchmarks.application", *session.posargs, env=environment)


@nox.session(name="bench-layouts")
def bench_layouts(session: nox.Session) -> None:
    """What patches cost wherever the code lies; -- PROJECT, --layouts N, --without PATCH."""
    session.install("--quiet", "--require-hashes", "-r", str(TOOLS))
    command, environment = ("python", "-m"), {"PYTHONPATH": "src"}
    session.run(*command, "tests.benchmarks.layouts", *session.posargs, env=environment)


@nox.session(name="update-pins")
def update_pins(session: nox.Session) -> None:
    """Renew every lock in src/freewheel/pins/ and say what changed; -- --keep only adds."""
    freewheel(session, "update-pins")
