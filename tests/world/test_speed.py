import runpy
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "scenes.py"


@pytest.mark.slow
def test_ten_thousand_scenes_with_captions_a_second_and_core():
    assert max(runpy.run_path(str(BENCHMARK))["rates"](5)) >= 10_000
