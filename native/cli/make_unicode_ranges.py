"""Writes unicode_ranges.inl: the letters, numbers and spaces that the `tokenizers` library sees, as code point ranges.

Run it again when that library moves to a newer Unicode:  python native/cli/make_unicode_ranges.py
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Regex, pre_tokenizers

CLASSES = {"kLetters": r"\p{L}", "kNumbers": r"\p{N}", "kSpaces": r"\s"}
HEADER = "// Made by make_unicode_ranges.py; first and last code point of each range.\n#include <cstdint>\n\n"
SURROGATES = range(0xD800, 0xE000)


def ranges(pattern: str) -> list[tuple[int, int]]:
    """Return the code points that `pattern` matches as closed ranges."""
    points = [point for point in range(0x110000) if point not in SURROGATES]
    text = "".join(map(chr, points))
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    matched = set(points)
    for _, (start, stop) in split.pre_tokenize_str(text):
        matched -= set(points[start:stop])
    found: list[tuple[int, int]] = []
    for point in sorted(matched):
        if found and found[-1][1] == point - 1:
            found[-1] = (found[-1][0], point)
        else:
            found.append((point, point))
    return found


def main() -> None:
    """Write the file beside this script."""
    parts = [HEADER]
    for name, pattern in CLASSES.items():
        cells = [f"{{{first:#x}, {last:#x}}}" for first, last in ranges(pattern)]
        rows = ",\n".join("    " + ", ".join(cells[i : i + 6]) for i in range(0, len(cells), 6))
        parts.append(f"constexpr uint32_t {name}[][2] = {{\n{rows}}};\n")
    (Path(__file__).parent / "unicode_ranges.inl").write_text("\n".join(parts))


if __name__ == "__main__":
    main()
