"""Audits of a run's own figures, from its tables alone, in the spirit of LoadGen's compliance tests."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tinylm.bench.store import Row, Run

__all__ = ["Audit", "audit_run"]

CACHE_BOUND = 1.10  # requests per CPU second of identical over distinct prompts (LoadGen's TEST04 allows 10 %)


@dataclass(frozen=True)
class Audit:
    """One check: what was asked, what was found, and whether it holds; None: it does not apply to this engine."""

    name: str
    found: str
    passed: bool | None


def audit_run(run: Run) -> list[Audit]:
    """Return the checks that the run's tables allow."""
    checks = (_same_texts(run), _token_counts(run), _no_hidden_cache(run))
    return [check for check in checks if check is not None]


def _same_texts(run: Run) -> Audit | None:
    """A request must have the same text in every cell: under any load, and alone."""
    known: dict[tuple[str, int], set[int]] = {}
    alone: set[tuple[str, int]] = set()
    digests = {
        c["cell_id"]: c["model_digest"] for c in run.cells if c["prompts"] != "same" and c["prompts"] != "distinct"
    }
    audits = {c["cell_id"] for c in run.cells if c["role"] == "audit"}
    columns = run.requests(("cell_id", "index", "digest"))
    for cell_id, index, digest in zip(columns["cell_id"], columns["index"], columns["digest"], strict=True):
        if digests.get(cell_id) is not None:
            key = (str(digests[cell_id]), int(index))
            known.setdefault(key, set()).add(int(digest))
            if cell_id in audits:
                alone.add(key)
    if not known:
        return None
    differing = sum(len(texts) > 1 for texts in known.values())
    found = f"{len(known):,} requests, {len(alone)} of them also answered alone: {differing} with more than one text"
    return Audit("a request has the same text under every load", found, differing == 0)


def _token_counts(run: Run) -> Audit | None:
    """With the end-of-story token ignored, every request must bring exactly the tokens asked for."""
    options = run.facts.get("settings", {}).get("options", {})
    cells = {c["cell_id"] for c in run.cells if c["backend"] == "native" and c["role"] == "measure"}
    if not cells or not options.get("ignore_eos"):
        return None
    columns = run.requests(("cell_id", "output_tokens", "error"))
    rows = zip(columns["cell_id"], columns["output_tokens"], columns["error"], strict=True)
    counts = [int(tokens) for cell_id, tokens, error in rows if cell_id in cells and error is None]
    wanted = int(options["max_new_tokens"])
    wrong = sum(count != wanted for count in counts)
    return Audit(
        "every request brings the tokens asked for", f"{wrong} of {len(counts):,} differ from {wanted}", wrong == 0
    )


def _no_hidden_cache(run: Run) -> Audit | None:
    """Prompts seen before must not be answered with less work than new ones."""
    cells = [c for c in run.cells if c["role"] == "audit" and c["status"] != "failed" and c["cpu_s"]]
    same = _work([c for c in cells if c["prompts"] == "same"])
    distinct = _work([c for c in cells if c["prompts"] == "distinct"])
    if same is None or distinct is None:
        return None
    ratio = same / distinct
    found = f"Identical prompts: {ratio:.2f} times the requests per CPU second of distinct ones"
    if any(c["prefix_sharing"] for c in cells):
        return Audit("no hidden cache", f"The engine declares that it reads equal beginnings once. {found}", None)
    return Audit("no hidden cache", f"{found}, bound {CACHE_BOUND:.2f}", ratio <= CACHE_BOUND)


def _work(cells: Sequence[Row]) -> float | None:
    rates = [float(c["requests_per_s"]) * float(c["duration_s"]) / float(c["cpu_s"]) for c in cells]
    return statistics.median(rates) if rates else None
