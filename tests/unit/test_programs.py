"""Programs in probes/: what a valid one says of itself, and what is told of one that is not."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from freewheel.base.errors import ProbeError
from freewheel.build.patches import read_series
from freewheel.proof.programs import Outcome, Probe, Programs, Stress, load_programs
from freewheel.recipe.pythons import PYTHONS
from freewheel.recipe.recipe import Recipe, load_recipes

ROOT = Path(__file__).parents[2]
RECIPES = load_recipes(ROOT / "recipes", ROOT / "patches")
PROJECTS = [recipe.name for recipe in RECIPES]
REAL = [
    pytest.param(probe, id=f"{name}-{probe.defect}")
    for name in PROJECTS
    for probe in load_programs(ROOT / "probes", name).probes
]

PROBE = """\
[tool.freewheel.probe]
defect = "S1"
title = "it loses its way"
releases = ">=1.2,<=1.10"
use = "supported"
passes = "it arrives"
fails-by = ["wrong answer", "crash"]
runs = { baseline = 5, patched = 50 }
seconds = 20
"""
STRESS = """\
[tool.freewheel.stress]
title = "goes there and back"
use = "misuse"
work = { quick = 8, full = 60.5 }
seconds = 30
"""


BENCHMARK = """\
[tool.freewheel.benchmark]
title = "going and coming"
use = "supported"
seconds = 30
[tool.freewheel.benchmark.cases]
go = "go there"
come_back = "and back again"
"""


def program(declaration: str) -> str:
    """A program with that declaration, written as the specification has it."""
    lines = [f"# {line}" if line else "#" for line in declaration.splitlines()]
    return "\n".join(["# /// script", *lines, "# ///", '"""S1: it loses its way."""', ""])


def write(tmp_path: Path, text: str, name: str = "S1.py") -> Path:
    directory = tmp_path / "probes" / "speedy"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return path


def load(tmp_path: Path) -> Programs:
    return load_programs(tmp_path / "probes", "speedy")


def problems(tmp_path: Path) -> list[str]:
    with pytest.raises(ProbeError) as caught:
        load(tmp_path)
    assert "docs/probes.md" in str(caught.value)
    return list(caught.value.problems)


# ------------------------------------------------------------------------------------ valid ones


def test_a_valid_probe_becomes_typed_values(tmp_path: Path) -> None:
    path = write(tmp_path, program(PROBE))

    assert load(tmp_path) == Programs(
        probes=(
            Probe(
                path=path,
                project="speedy",
                title="it loses its way",
                use="supported",
                needs=(),
                seconds=20.0,
                memory=4096,
                exclusive=False,
                defect="S1",
                releases=SpecifierSet(">=1.2,<=1.10"),
                pythons=SpecifierSet(),
                passes="it arrives",
                fails_by=(Outcome.WRONG, Outcome.CRASH),
                baseline_runs=5,
                patched_runs=50,
            ),
        ),
        stress=(),
    )


def test_what_a_program_may_ask_for_is_read(tmp_path: Path) -> None:
    write(tmp_path, program(f'{PROBE}memory = 0\nneeds = ["postgresql"]\nexclusive = true\n'))

    (probe,) = load(tmp_path).probes

    assert (probe.memory, probe.needs, probe.exclusive) == (0, ("postgresql",), True)


def test_a_stress_program_is_told_from_a_probe(tmp_path: Path) -> None:
    write(tmp_path, program(PROBE))
    write(tmp_path, program(STRESS), "stress.py")

    programs = load(tmp_path)

    assert [probe.name for probe in programs.probes] == ["S1"]
    (stress,) = programs.stress
    assert isinstance(stress, Stress)
    assert (stress.name, stress.use) == ("stress", "misuse")
    assert (stress.quick_seconds, stress.full_seconds, stress.seconds) == (8.0, 60.5, 30.0)


def test_a_probe_is_found_by_its_defect(tmp_path: Path) -> None:
    for defect in ("S1", "SP2", "S10U"):
        write(tmp_path, program(PROBE.replace("S1", defect)), f"{defect}.py")

    programs = load(tmp_path)

    found = programs.probe("SP2")
    assert found is not None
    assert found.path.name == "SP2.py"
    assert programs.probe("S2") is None


def test_other_metadata_and_other_blocks_are_let_be(tmp_path: Path) -> None:
    other = '# /// other\n# [tool.freewheel.probe]\n# defect = "S2"\n# ///\n\n'
    declaration = f'requires-python = "==3.14.*"\ndependencies = ["speedy==1.10"]\n\n{PROBE}'
    write(tmp_path, other + program(f'{declaration}\n[tool.other]\nkey = "value"\n'))

    assert [probe.defect for probe in load(tmp_path).probes] == ["S1"]


def test_a_project_without_programs_has_none(tmp_path: Path) -> None:
    assert load(tmp_path) == Programs(probes=(), stress=())


# -------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("before", "after", "key", "reason"),
    [
        ('defect = "S1"\n', "", "defect", "missing"),
        ('"S1"', '"s1"', "defect", "does not match"),
        ("it loses its way", "", "title", "at least 1 character"),
        ("it loses its way", "it " * 41, "title", "at most 120 characters"),
        ('"it loses its way"', '"""it\nloses"""', "title", "must be one line"),
        (">=1.2,<=1.10", "1.2 to 1.10", "releases", "must be version specifiers"),
        ('"supported"', '"wrong"', "use", "'supported' or 'misuse'"),
        ('passes = "it arrives"\n', "", "passes", "missing"),
        ('["wrong answer", "crash"]', "[]", "fails-by", "needs at least 1, has 0"),
        ('"crash"]', '"explosion"]', "fails-by.1", "must be one of exception, wrong answer, leak"),
        ('"crash"]', '"pass"]', "fails-by.1", "must be one of"),
        ('"crash"]', '"not run"]', "fails-by.1", "must be one of"),
        ("baseline = 5", "baseline = 0", "runs.baseline", "greater than or equal to 1"),
        (", patched = 50", "", "runs.patched", "missing"),
        ("patched = 50", "patched = 50, more = 1", "runs.more", "unknown key; "),
        ("seconds = 20", "seconds = 0", "seconds", "greater than 0"),
        ("seconds = 20", 'seconds = "20"', "seconds", "valid number"),
        ("seconds = 20", "seconds = inf", "seconds", "finite number"),
        ("seconds = 20", "seconds = 20\nmemory = -1", "memory", "greater than or equal to 0"),
        ("seconds = 20", "seconds = 20\nmemory = 1.5", "memory", "valid integer"),
        ("seconds = 20", 'seconds = 20\nneeds = ["mysql"]', "needs.0", "'postgresql'"),
        ("seconds = 20", "seconds = 20\nexclusive = 1", "exclusive", "valid boolean"),
        ("seconds = 20", "seconds = 20\ntimeout = 3", "timeout", "unknown key; "),
    ],
)
def test_a_mistake_in_a_probe_is_named_with_its_file_and_key(
    tmp_path: Path, before: str, after: str, key: str, reason: str
) -> None:
    assert before in PROBE
    write(tmp_path, program(PROBE.replace(before, after)))

    (problem,) = problems(tmp_path)

    assert problem.startswith(f"speedy/S1.py: {key}: ")
    assert reason in problem


@pytest.mark.parametrize(
    ("before", "after", "key", "reason"),
    [
        ("quick = 8", "quick = 0", "work.quick", "greater than 0"),
        ("full = 60.5", 'full = "long"', "work.full", "valid number"),
        ("quick = 8, ", "", "work.quick", "missing"),
        ("seconds = 30", 'seconds = 30\ndefect = "S1"', "defect", "unknown key; "),
    ],
)
def test_a_mistake_in_a_stress_program_is_named_with_its_file_and_key(
    tmp_path: Path, before: str, after: str, key: str, reason: str
) -> None:
    assert before in STRESS
    write(tmp_path, program(STRESS.replace(before, after)), "stress.py")

    (problem,) = problems(tmp_path)

    assert problem.startswith(f"speedy/stress.py: {key}: ")
    assert reason in problem


def test_a_benchmark_says_what_it_measures(tmp_path: Path) -> None:
    path = write(tmp_path, program(BENCHMARK), "bench.py")

    (found,) = load(tmp_path).benchmarks

    assert (found.path, found.name, found.seconds) == (path, "bench", 30)
    assert found.cases == {"go": "go there", "come_back": "and back again"}


def test_a_benchmark_without_cases_is_refused(tmp_path: Path) -> None:
    write(
        tmp_path,
        program(BENCHMARK.split("[tool.freewheel.benchmark.cases]", maxsplit=1)[0]),
        "bench.py",
    )

    (problem,) = problems(tmp_path)

    assert problem.startswith("speedy/bench.py: cases: ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('"""Says nothing of itself."""\n', "0 blocks"),
        (program(PROBE) + program(PROBE), "2 blocks"),
        (program('[tool.freewheel.probe]\ndefect = "S1'), "not valid TOML"),
        (program('dependencies = ["speedy"]'), "needs one of"),
        (program("[tool.freewheel]\nprobe = 1\nstress = 1"), "needs one of"),
        (program("[tool]\nfreewheel = 1"), "needs one of"),
        (program("tool = 1"), "needs one of"),
        (program(PROBE + STRESS), "needs one of"),
        (program(PROBE.replace("S1", "S2")), "is about S2"),
    ],
)
def test_a_program_that_is_none_is_named_with_its_file(
    tmp_path: Path, text: str, reason: str
) -> None:
    write(tmp_path, text)

    (problem,) = problems(tmp_path)

    assert problem.startswith("speedy/S1.py: ")
    assert reason in problem


def test_all_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, program(PROBE))
    write(tmp_path, program(PROBE.replace("supported", "any").replace("= 20", "= -1")), "S2.py")
    write(tmp_path, "print()\n", "S3.py")
    write(tmp_path, program(STRESS.replace("quick = 8", "quick = -8")), "stress.py")

    found = [re.sub(r": [^:]*$", "", problem) for problem in problems(tmp_path)]

    assert found == [
        "speedy/S2.py: use",
        "speedy/S2.py: seconds",
        "speedy/S3.py",
        "speedy/stress.py: work.quick",
    ]


# --------------------------------------------------------------------------- those of this project


@pytest.mark.parametrize("project", PROJECTS)
def test_every_program_of_the_project_is_valid(project: str) -> None:
    programs = load_programs(ROOT / "probes", project)

    every = (*programs.probes, *programs.stress, *programs.benchmarks)
    assert {program.path for program in every} == set((ROOT / "probes" / project).glob("*.py"))
    assert programs.probes


@pytest.mark.parametrize("recipe", RECIPES, ids=PROJECTS)
def test_every_patch_has_a_probe_that_concerns_its_release(recipe: Recipe) -> None:
    programs = load_programs(ROOT / "probes", recipe.name)
    wanted = {
        (release.version, defect)
        for release in recipe.releases
        for patch in read_series(release)
        for defect in patch.defects
    }

    declared = {
        (release.version, probe.defect)
        for release in recipe.releases
        for probe in programs.probes
        if Version(release.version) in probe.releases
    }

    assert wanted <= declared


@pytest.mark.parametrize("probe", REAL)
def test_a_probe_shows_its_defect_on_a_public_release(probe: Probe) -> None:
    text = probe.path.read_text(encoding="utf-8")
    block = re.search(r"(?s)^# /// script\n(.*?)^# ///$", text, flags=re.MULTILINE)
    assert block
    metadata = tomllib.loads(re.sub(r"(?m)^# ?", "", block[1]))
    (requirement,) = map(Requirement, metadata["dependencies"])
    (pin,) = requirement.specifier
    recipe = next(recipe for recipe in RECIPES if recipe.name == probe.project)
    concerned = [r.version for r in recipe.releases if Version(r.version) in probe.releases]

    assert SpecifierSet(metadata["requires-python"]) == probe.pythons
    assert any(probe.pythons.contains(python.version) for python in PYTHONS)
    # A project under two names has one directory, and a link to it.
    project = probe.path.resolve().parent.name
    assert (canonicalize_name(requirement.name), pin.operator) == (project, "==")
    assert pin.version == max(concerned, key=Version)


@pytest.mark.parametrize("probe", REAL)
def test_a_probe_begins_with_what_it_declares(probe: Probe) -> None:
    text = probe.path.read_text(encoding="utf-8")

    assert f'\n# ///\n"""{probe.defect}: {probe.title}.\n\n' in text
