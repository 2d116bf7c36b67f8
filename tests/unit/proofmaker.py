"""Probes, tallies and certificates for tests, made in memory."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from packaging.specifiers import SpecifierSet

from freewheel.base import files
from freewheel.build.check import BaselineWheel
from freewheel.build.patches import Patch
from freewheel.machine.facts import Facts
from freewheel.machine.interpreter import Interpreter
from freewheel.proof import certificate, control, form
from freewheel.proof.evidence import Expected
from freewheel.proof.make_certificate import Evidence, issue
from freewheel.proof.programs import Benchmark, Outcome, Probe, Programs, Stress
from freewheel.proof.races.sanitizer import SanitizerResult
from freewheel.proof.suite.results import Comparison
from freewheel.recipe.recipe import Release
from tests.unit.wheelmaker import as_verified, make_wheel

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
DIGEST = "0" * 64


def make_probe(
    directory: Path,
    defect: str = "D1",
    *,
    fails_by: tuple[Outcome, ...] = (Outcome.WRONG,),
    text: str = "",
    pythons: str = "",
) -> Probe:
    """A probe of the project demo; its file has ``text`` in it."""
    path = directory / "demo" / f"{defect}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return Probe(
        path=path,
        project="demo",
        title=f"the defect <{defect}>",
        use="supported",
        needs=(),
        seconds=10,
        memory=0,
        exclusive=False,
        defect=defect,
        releases=SpecifierSet("<=1.0"),
        pythons=SpecifierSet(pythons),
        passes="nothing is wrong",
        fails_by=fails_by,
        baseline_runs=10,
        patched_runs=40,
    )


def make_stress(directory: Path) -> Stress:
    """A stress program of the project demo."""
    path = directory / "demo" / "stress.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return Stress(
        path=path,
        project="demo",
        title="everything at once",
        use="supported",
        needs=(),
        seconds=10,
        memory=0,
        exclusive=True,
        quick_seconds=1,
        full_seconds=8,
    )


def make_benchmark(path: Path, case: str, *, seconds: float = 20) -> Benchmark:
    """A benchmark of the project demo with one case."""
    return Benchmark(
        path=path,
        project="demo",
        title="demo",
        use="supported",
        needs=(),
        seconds=seconds,
        memory=0,
        exclusive=False,
        cases={case: "what it does"},
    )


def make_tally(
    runs: int, failures: int = 0, endings: Mapping[str, int] | None = None, *, said: str = ""
) -> form.Tally:
    """``failures`` of ``runs`` failed, with wrong answers unless ``endings`` say otherwise."""
    counted = endings or {"pass": runs - failures, "wrong answer": failures}
    return form.Tally(
        runs=runs,
        failures=failures,
        endings={name: count for name, count in counted.items() if count},
        seconds=1.2,
        said=said,
    )


def make_figure() -> form.Figure:
    """A case that the patches make twice as fast in one thread, and eight times in two."""
    rates: dict[Literal["baseline", "patched"], dict[str, float]] = {
        "baseline": {"1 thread": 1000.0, "2 threads": 500.0, "2 processes": 2000.0},
        "patched": {"1 thread": 2000.0, "2 threads": 4000.0, "2 processes": 4100.0},
    }

    def ratio(value: float) -> form.Ratio:
        return form.Ratio(median=value, lowest=value * 0.9, highest=value * 1.1)

    return form.Figure(
        program="bench",
        case="go",
        title="go <there>",
        workers=2,
        rounds=5,
        one=ratio(2.0),
        several=ratio(8.0),
        baseline_scaling=ratio(0.25),
        patched_scaling=ratio(0.976),
        rates=rates,
    )


def make_comparison() -> Comparison:
    """A suite in several threads, with one of everything that a certificate may tell of."""
    return Comparison(
        baseline={"passed": 7, "failed": 3},
        patched={"passed": 8, "failed": 2},
        baseline_gil="demo.core",
        patched_gil="",
        threads=4,
        in_parallel=9,
        newly_failing=(),
        newly_passing=("test_mended",),
        flaky=(
            form.Flaky(
                test="test_flaky",
                baseline_failures=4,
                baseline_runs=4,
                patched_failures=1,
                patched_runs=4,
            ),
        ),
        failing_on_both=(
            form.Explained(
                test="test_<broken>", outcome="failed: 7 != 8", reason="it needs a network"
            ),
        ),
        outdated=(
            form.Explained(test="test_old", outcome="no leak", reason="it expects <a leak>"),
        ),
        unneeded=(),
        skipped={"no server": 2},
        left_out={"takes an hour": 1},
    )


def make_evidence(directory: Path, *, quick: bool = False, said: str = "") -> Evidence:
    """One wheel of the project demo, with one defect that was mended, and its stress program."""
    probe = make_probe(directory / "probes")
    stress = make_stress(directory / "probes")
    baseline = as_verified(make_wheel(directory / "wheels" / "baseline", "demo", "1.0"))
    baseline_runs, patched_runs = control.runs_wanted(probe, quick=quick)
    finding = control.judge(
        probe,
        make_tally(baseline_runs, baseline_runs, said=said),
        make_tally(patched_runs),
        claimed=True,
        quick=quick,
    )
    return Evidence(
        release=Release(
            project="demo",
            version="1.0",
            sha256=DIGEST,
            released=NOON,
            revision=1,
            patches=(),
        ),
        series=(make_patch(directory),),
        patched=as_verified(make_wheel(directory / "wheels", "demo", "1.0+ft.1")),
        baseline=BaselineWheel(
            path=baseline.path,
            project="demo",
            version="1.0",
            sha256=baseline.sha256,
            size=baseline.size,
            failures=("FW203 after all imports the GIL is still off: demo turned it on",),
        ),
        findings=[(probe, finding)],
        stress=[
            form.Stress(
                name=stress.name,
                title=stress.title,
                program_sha256=stress.sha256,
                work=8,
                baseline=make_tally(1, 1),
                patched=make_tally(1),
            )
        ],
        suites=[make_comparison()],
        sanitized=SanitizerResult(
            project="demo",
            version="1.0+ft.1",
            baseline=False,
            python="3.14.7",
            clang="22.1.0",
            runs=(),
            races=(),
            suppressed=(("race_top:unicode_hash", 3),),
            broken=(),
        ),
        figures=(make_figure(),),
        interpreter=Interpreter(
            path=Path("python3.14t"), version="3.14.7", build="3.14.7 (main)", origin="PATH"
        ),
        machine=Facts(system="Debian", kernel="Linux", processor="x", processors=2, memory=1024),
        started=NOON,
        finished=NOON,
        commit="",
        quick=quick,
    )


def make_patch(directory: Path) -> Patch:
    """A patch that mends D1."""
    fields = {"Description": "Count without a race", "X-Defect": "D1"}
    return Patch(path=directory / "0001-count.patch", sha256=DIGEST, fields=fields)


def expected_of(evidence: Evidence, *added: Probe) -> Expected:
    """What the checkout that the evidence is from has; ``added`` are probes that came since."""
    programs = programs_of(evidence)
    digests = {p.name: p.sha256 for p in (*programs.probes, *programs.stress, *added)}
    return Expected(
        source_sha256=evidence.release.sha256,
        patches={patch.name: patch.sha256 for patch in evidence.series},
        programs=digests,
        suite=True,
    )


def programs_of(evidence: Evidence) -> Programs:
    """The programs that the evidence was had with."""
    probes = tuple(probe for probe, _ in evidence.findings)
    stress = make_stress(probes[0].path.parents[1])
    return Programs(probes=probes, stress=(stress,))


def certify(evidence: Evidence) -> form.Certificate:
    """Issue the certificate and lay it beside the wheel."""
    issued = issue(evidence)
    certificate.write(evidence.patched.path, issued)
    assert files.sha256(evidence.patched.path) == issued.wheel.sha256
    return issued
