"""Settings of the corpus stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tinylm.config import Config

__all__ = ["CorpusConfig"]

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class CorpusConfig(Config):
    """Where the text comes from and which of it is kept."""

    source: Literal["builtin", "hub", "files"] = Field(
        "builtin", description="our own story grammar, a data set of the Hugging Face hub, or files"
    )
    stories: Annotated[int, Field(gt=1, le=10_000_000)] = Field(30_000, description="builtin: stories written")
    seed: Count = Field(0, description="builtin: story i is a function of (seed, i) alone")
    dataset: str = Field("roneneldan/TinyStories", description="hub: owner/name")
    revision: str | None = Field(None, description="hub: commit, tag or branch; pin a commit for equal data for ever")
    split: str = Field("train", description="hub: split to train on")
    valid_split: str | None = Field(None, description="hub: split to validate on; absent: held out of `split`")
    streaming: bool = Field(False, description="hub: read over the network without a copy on disk")
    files: tuple[str, ...] = Field(
        (), description="files: paths, globs, folders; .txt .jsonl .json .csv .parquet, .gz .zst .bz2 .xz of these"
    )
    valid_files: tuple[str, ...] = Field((), description="validation text of its own, taken as it is")
    text_column: str = Field("text", description="column or key that holds the text")
    separator: str = Field(
        "", description=".txt: line between documents; empty: <|endoftext|> where the file has it, else a blank line"
    )
    max_documents: Count = Field(0, description="read at most so many; 0: all")
    min_words: Count = Field(5, description="shorter documents are dropped")
    max_words: Annotated[int, Field(gt=0)] = Field(20_000, description="longer documents are dropped")
    drop_cut: bool | None = Field(
        None, description="drop documents that stop in mid-sentence; absent: yes for the hub, no for files"
    )
    near_duplicate: Share | None = Field(
        None, description="Jaccard similarity of word 5-grams that makes a copy; 0: off; absent: 0.8, builtin off"
    )
    valid_share: Annotated[float, Field(gt=0, lt=1)] = Field(0.02, description="held out, by content hash")
    max_overlap: Share | None = Field(
        None,
        description="training documents with more of their 13-word sequences in validation text are dropped; 1: off; "
        "absent: 0.2, builtin off (its sentences recur by design, its stories do not)",
    )

    @model_validator(mode="after")
    def _check_source(self) -> CorpusConfig:
        if self.source == "files" and not self.files:
            raise ValueError("files: expected at least one path; found none; give --corpus (in a flow: corpus)")
        if self.source != "files" and self.files:
            raise ValueError(f"files: only used with source = 'files'; found source = {self.source!r}")
        if self.min_words > self.max_words:
            raise ValueError(f"min_words must not exceed max_words ({self.max_words}); found {self.min_words}")
        return self

    @property
    def copy_similarity(self) -> float:
        """Jaccard similarity from which a document counts as a copy; 0: off."""
        return self._outside(0.8, 0.0) if self.near_duplicate is None else self.near_duplicate

    @property
    def overlap_limit(self) -> float:
        """Share of a training document's 13-word sequences that may occur in validation text; 1: any."""
        return self._outside(0.2, 1.0) if self.max_overlap is None else self.max_overlap

    @property
    def drops_cut(self) -> bool:
        """Whether documents that stop in mid-sentence are dropped."""
        return self.source == "hub" if self.drop_cut is None else self.drop_cut

    def _outside(self, value: float, builtin: float) -> float:
        return builtin if self.source == "builtin" else value
