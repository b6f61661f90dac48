"""The audits of a run: what holds, what does not, and what does not apply."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinylm.bench.audit import audit_run
from tinylm.bench.store import Run


def _run(same_per_s: float, sharing: bool) -> Run:
    """Return a run whose audit cells served identical prompts at this rate and distinct ones at one a second."""
    base = {"role": "audit", "status": "ok", "backend": "native", "cpu_s": 1.0, "duration_s": 1.0, "model_digest": None}
    rates = {"same": same_per_s, "distinct": 1.0}
    cells = [
        base | {"cell_id": name, "prompts": name, "requests_per_s": rate, "prefix_sharing": sharing}
        for name, rate in rates.items()
    ]
    return Run({}, cells, {}, Path())


@pytest.mark.parametrize(
    ("same_per_s", "sharing", "passed"), [(1.05, False, True), (2.98, False, False), (2.98, True, None)]
)
def test_a_cache_is_hidden_unless_declared(
    same_per_s: float, sharing: bool, passed: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {"cell_id": [], "index": [], "digest": []}
    monkeypatch.setattr(Run, "requests", lambda *_: columns)
    (audit,) = audit_run(_run(same_per_s, sharing))
    assert (audit.name, audit.passed) == ("no hidden cache", passed)
    assert ("bound" in audit.found) != sharing  # a bound beside a rate past it would read as a contradiction
