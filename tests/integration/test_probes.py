"""Each probe fails on the baseline wheel and passes on the patched one."""

from pathlib import Path

import pytest

from freewheel.machine.interpreter import Interpreter
from freewheel.patches import read_series
from freewheel.recipe import Release, load_recipes
from tests.integration.conftest import ROOT, Checkout, make_environment

pytestmark = pytest.mark.integration

PATCHES = [
    pytest.param(release, defect, id=f"{release.project}-{release.version}-{defect}")
    for recipe in load_recipes(ROOT / "recipes", ROOT / "patches")
    for release in recipe.releases
    for patch in read_series(release)
    for defect in patch.defects
]
RUNS = 3


@pytest.mark.parametrize(("release", "defect"), PATCHES)
def test_without_the_patch_the_defect_shows_and_with_it_it_does_not(
    built: Checkout,
    interpreter: Interpreter,
    postgres: str,
    tmp_path: Path,
    release: Release,
    defect: str,
) -> None:
    probe = ROOT / "probes" / release.project / f"{defect}.py"
    codes: dict[str, list[int]] = {}
    said: list[str] = []
    for kind, version in (("baseline", release.version), ("patched", release.local_version)):
        environment = make_environment(tmp_path / kind, interpreter)
        record = built.record(release.project, version, baseline=kind == "baseline")
        environment.install(record.wheel)
        done = [
            environment.run(probe, env={"FREEWHEEL_POSTGRES_DSN": postgres}) for _ in range(RUNS)
        ]
        codes[kind] = [run.returncode for run in done]
        said += [f"{kind}: {run.stdout}{run.stderr}" for run in done]

    assert codes == {"baseline": [1] * RUNS, "patched": [0] * RUNS}, "\n".join(said)
