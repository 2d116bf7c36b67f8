"""The sessions of Freewheel; ``nox`` alone runs lint and unit.

A verb that has no session of its own runs with ``nox -s freewheel -- VERB ...``.
"""

from pathlib import Path

import nox

nox.needs_version = ">=2026.10.20"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "unit"]

PINS = Path("src/freewheel/pins")
TOOLS = PINS / "tools.txt"
DEVELOPMENT = PINS / "development.txt"
SERVER = PINS / "server.txt"
SOURCE = {"PYTHONPATH": "src"}

# The names of recipes are those of their files. What is in them is judged where they are read.
PROJECTS = sorted(path.stem for path in Path("recipes").glob("*.toml"))

# A session that is one verb: what the verb needs, and what `nox --list` says.
VERBS = {
    "audit": (TOOLS, "Say what a lock, an environment or a crash dump needs; -- PATH"),
    "fill": (TOOLS, "Build what a lock lacks, and make an environment; -- PATH"),
    "build": (TOOLS, "Build every recipe's newest release; -- --all-releases, --baseline"),
    "prove": (TOOLS, "Prove every patch and certify the wheels; -- --quick, --races, --afresh"),
    "reproduce": (TOOLS, "Build each wheel twice, all else varied, and compare; -- PROJECT"),
    "publish": (SERVER, "Upload the certified wheels with twine; -- PROJECT, --rehearse"),
    "serve": (SERVER, "Run the private index on this machine, until interrupted; -- --port N"),
    "doctor": (TOOLS, "Say what this machine has, what a build would choose, what is missing"),
    "tsan": (TOOLS, "Look for data races with ThreadSanitizer; -- PROJECT, --baseline"),
    "watch": (TOOLS, "Say what upstream has released, and which patches it needs; -- PROJECT"),
    "update-pins": (TOOLS, "Renew the locks in src/freewheel/pins/; -- --keep only adds"),
    "freewheel": (SERVER, "Run any verb of the command line; -- VERB ..., or -- --help"),
}
# The same for one project: build-asyncpg, prove-asyncpg and so on.
OF_A_PROJECT = {
    "build": "Build {project}; -- --release X, --all-releases, --baseline",
    "prove": "Prove {project}'s wheels; -- --release X, --all-releases, --quick, --races",
    "bench": "Measure {project}'s patched wheel by the unpatched one; -- --rounds N, --seconds S",
    "refresh": "Carry {project}'s newest patches over to another release; -- RELEASE, --continue",
}
# What `nox -s bench -- WORD` measures besides the wheels; each is a program of tests/benchmarks/.
BENCHMARKS = ("application", "build", "default-build", "layouts", "probes")


def install(session: nox.Session, lock: Path) -> None:
    """Install a lock, hash by hash."""
    session.install("--quiet", "--require-hashes", "-r", str(lock))


def run(session: nox.Session, module: str, *words: str) -> None:
    """Run a module of this checkout."""
    session.run("python", "-m", module, *words, env=SOURCE)


def freewheel(session: nox.Session, *words: str, lock: Path = TOOLS) -> None:
    """Run the command line from this checkout, with the locked tools."""
    install(session, lock)
    run(session, "freewheel", *words, *session.posargs)


def define(name: str, text: str, words: tuple[str, ...], lock: Path) -> None:
    """Define a session that hands its words on to the command line."""

    @nox.session(name=name)
    def verb(session: nox.Session) -> None:
        freewheel(session, *words, lock=lock)

    verb.__doc__ = text


for verb, (lock, text) in VERBS.items():
    define(verb, text, () if verb == "freewheel" else (verb,), lock)
for project in PROJECTS:
    for verb, text in OF_A_PROJECT.items():
        define(f"{verb}-{project}", text.format(project=project), (verb, project), TOOLS)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure what patches cost and gain; -- PROJECT, or application, build, layouts, ..."""
    word, *others = session.posargs or [""]
    if word not in BENCHMARKS:
        freewheel(session, "bench")
        return
    install(session, TOOLS)
    if word == "application":
        run(session, "freewheel", "build")
    run(session, f"tests.benchmarks.{word.replace('-', '_')}", *others)


@nox.session
def unit(session: nox.Session) -> None:
    """Run the unit tests, without a network; words go to pytest."""
    install(session, DEVELOPMENT)
    run(session, "pytest", *(session.posargs or ["tests/unit"]))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the unit tests, then real builds, probes, installs and servers; words go to pytest."""
    install(session, DEVELOPMENT)
    run(session, "pytest", "--durations=25", *session.posargs)


@nox.session
def application(session: nox.Session) -> None:
    """Run the application under load on its stacks; -- --upstream, --seconds N, --python X."""
    install(session, TOOLS)
    words = session.posargs
    at = words.index("--python") if "--python" in words else len(words)
    run(session, "freewheel", "build", "--all-releases", *words[at : at + 2])
    if "--upstream" in session.posargs:
        # It has no public wheel for this interpreter.
        run(session, "freewheel", "build", "httptools", "--release", "0.7.1", "--baseline")
    run(session, "tests.application", *session.posargs)


@nox.session(name="rehearse-release")
def rehearse_release(session: nox.Session) -> None:
    """Walk through the release workflow on this machine; -- PROJECT, --release X, --races."""
    install(session, DEVELOPMENT)
    run(session, "tests.rehearsal", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check formatting, style, types, and the workflows' form and security."""
    install(session, DEVELOPMENT)
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
    forms = (".github/ISSUE_TEMPLATE/crash.yml", ".github/ISSUE_TEMPLATE/project.yml")
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-issue-forms", *forms)
    # The strictest there is: what could be an error counts as one.
    strictest = ("--offline", "--no-config", "--persona=auditor", "--strict-collection")
    session.run("zizmor", *strictest, ".github")
