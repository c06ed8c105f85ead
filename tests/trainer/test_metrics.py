"""Lines of `metrics.jsonl` as they are read back."""

import logging
from pathlib import Path

import pytest

from hs_data.trainer.metrics import read_metrics


@pytest.mark.parametrize("damage", ['{"step": 2, "lo', '{"loss": 0.5}', "[2]", "2"])
def test_a_line_that_is_none_is_told_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1, "loss": 0.5}}\n{damage}\n{{"step": 3, "loss": null}}\n')
    with caplog.at_level(logging.WARNING):
        lines = read_metrics(tmp_path)
    assert [(line.step, line.values) for line in lines] == [(1, {"loss": 0.5}), (3, {"loss": None})]
    assert "a damaged line is left out" in caplog.text
