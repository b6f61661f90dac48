"""The tables of settings and machine: words, units, and nothing that is empty or of no concern."""

from __future__ import annotations

from tinylm.report.fact_rows import machine_rows, setting_rows


def test_machine_is_told_in_words_with_units_and_without_empty_rows() -> None:
    machine = {"cpu": "chip", "usable_cores": 2, "quota_cores": None, "l2_bytes": 2097152, "memory_bytes": 25276514304}
    machine |= {"governor": None, "virtual": True, "isa_flags": ["avx2", "fma"]}
    assert machine_rows(machine) == [
        ("processor", "chip"),
        ("usable cores", "2"),
        ("second-level cache", "2.10\u00a0MB"),
        ("memory", "25.3\u00a0GB"),
        ("virtual machine", "yes"),
        ("instruction sets", "avx2 · fma"),
    ]


def test_settings_of_the_null_backend_are_shown_where_it_ran() -> None:
    settings = {"backend": "native", "options": {"stop": [], "seed": 0}, "null": {"mean_ms": 10.0}}
    assert setting_rows(settings) == [("backend", "native"), ("options.seed", "0")]
    assert ("null.mean_ms", "10.0") in setting_rows(settings | {"backend": "null"})


def test_a_long_list_is_cut() -> None:
    assert setting_rows({"prompts": list(range(10))}) == [("prompts", "0 · 1 · 2 · 3 · 4 · 5 · 6 · 7 · and 2 more")]
