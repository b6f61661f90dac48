"""The small protobuf writer and reader: SentencePiece opens what it writes, damage is a named error."""

from __future__ import annotations

import pytest
import sentencepiece
from interop_spm import spm_model, spm_pieces

from tinylm.errors import FormatError
from tinylm.interop.sentencepiece_proto import read_normalizer
from tinylm.tokenizer import load_tokenizer


@pytest.mark.parametrize("dummy_prefix", [False, True])
def test_sentencepiece_opens_what_is_written(dummy_prefix: bool) -> None:
    model = spm_model(400, dummy_prefix=dummy_prefix)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    assert (processor.unk_id(), processor.bos_id(), processor.eos_id(), processor.pad_id()) == (0, 1, 2, -1)
    assert load_tokenizer(model).pieces() == spm_pieces(400)
    assert read_normalizer(model).dummy_prefix == dummy_prefix
    assert load_tokenizer(model).adds_prefix_space == dummy_prefix
    assert not read_normalizer(model).has_charsmap


def test_settings_of_a_published_model_are_read(shared_data: object) -> None:
    from pathlib import Path

    model = (Path(str(shared_data)) / "stories260K" / "tok512.model").read_bytes()
    settings = read_normalizer(model)
    assert (settings.name, settings.dummy_prefix, settings.collapse_spaces) == ("identity", True, True)


DAMAGED = {
    "endless number": b"\xff" * 20,
    "length past the end": b"\x0a\xff\xff\xff\xff\x7f",
    "length of 2^63": b"\x0a" + b"\xff" * 9 + b"\x7f",
    "cut fixed32": b"\x15\x00\x00",
    "cut fixed64": b"\x11\x00",
    "group": b"\x0b",
    "wire type 7": b"\x0f\x01",
    "damaged normalizer": b"\x1a\x02\x0a\x7f",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_a_named_error(case: str) -> None:
    with pytest.raises(FormatError, match="SentencePiece model"):
        read_normalizer(DAMAGED[case])


def test_truncations_never_escape() -> None:
    model = spm_model(300)
    for size in range(0, len(model), 3):
        try:
            read_normalizer(model[:size])
            load_tokenizer(model[:size])
        except FormatError:
            continue
