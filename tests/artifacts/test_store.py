"""The store: equal work once, whole or not at all, damage noticed, leftovers cleaned."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tinylm.artifacts import ArtifactRef, Store, find_model
from tinylm.config import Config
from tinylm.errors import ArtifactError, DataError

FORK = multiprocessing.get_context("fork")


class Settings(Config):
    """Settings of the stage under test."""

    words: str = "once upon a time"


def make_story(folder: Path) -> dict[str, Any]:
    (folder / "parts").mkdir(exist_ok=True)
    (folder / "story.txt").write_text("a story\n")
    (folder / "parts" / "one.txt").write_text("one\n")
    return {"words": 2}


def build(store: Store, make: Callable[[Path], dict[str, Any]] = make_story, **options: Any) -> ArtifactRef:
    return store.build("story", 1, Settings(), {}, make, **options)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "artifacts")


def test_equal_work_is_done_once(store: Store) -> None:
    first = build(store)
    assert not first.reused
    second = build(store, lambda _: pytest.fail("made again"))
    assert second.reused
    assert second == first
    assert second.summary == {"words": 2}
    assert set(second.manifest.files) == {"story.txt", "parts/one.txt", "summary.json"}


def test_key_depends_on_each_part_of_the_work(store: Store) -> None:
    base = build(store)
    others = [
        store.build("story", 2, Settings(), {}, make_story),
        store.build("story", 1, Settings(words="the end"), {}, make_story),
        store.build("story", 1, Settings(), {"base": base}, make_story),
        store.build("story", 1, Settings(), {}, make_story, content={"file": "abc"}),
        store.build("tale", 1, Settings(), {}, make_story),
    ]
    assert len({ref.key for ref in [base, *others]}) == 6


def test_descendants_follow_content_not_time(store: Store) -> None:
    """Remaking an input with equal bytes leaves its descendants current; other bytes do not."""
    parent = build(store)
    child = store.build("child", 1, Settings(), {"story": parent}, make_story)
    other = store.build("story", 2, Settings(), {}, make_story)
    assert store.build("child", 1, Settings(), {"story": other}, make_story).key == child.key

    def changed(folder: Path) -> dict[str, Any]:
        return make_story(folder) | {"n": (folder / "story.txt").write_text("another")}

    third = store.build("story", 3, Settings(), {}, changed)
    assert store.build("child", 1, Settings(), {"story": third}, make_story).key != child.key


def test_failed_work_leaves_nothing(store: Store) -> None:
    def fail(folder: Path) -> dict[str, Any]:
        make_story(folder)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        build(store, fail)
    assert list((store.root / "story").iterdir()) == []
    assert build(store).summary == {"words": 2}


STEPS = ["fsync", "rename"]


def _killed_at(store: Store, step: str, nth: int, resumable: bool) -> int:
    """Build in a child process that dies, without any clean-up, at the nth call of `step`; return its exit code."""

    def child() -> None:
        calls = 0
        real = os.fsync if step == "fsync" else Path.rename

        def dying(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == nth:
                os._exit(9)
            return real(*arguments)

        if step == "fsync":
            os.fsync = dying
        else:
            Path.rename = dying  # type: ignore[method-assign,assignment]
        build(store, resumable=resumable)

    process = FORK.Process(target=child)
    process.start()
    process.join(30)
    return process.exitcode if process.exitcode is not None else -1


@pytest.mark.parametrize("resumable", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_kill_at_every_step_leaves_no_half_artifact(tmp_path: Path, step: str, resumable: bool) -> None:
    for nth in range(1, 100):
        store = Store(tmp_path / f"{step}{nth}")
        code = _killed_at(store, step, nth, resumable)
        published = store.entries()
        assert set(store.verify().values()) <= {None}, f"{step} {nth}: a damaged artifact was published"
        after = build(store)
        assert after.summary == {"words": 2}
        assert after.reused == bool(published)
        assert not list((store.root / "story").glob(".work-*"))
        if code == 0:
            assert nth > 2, "the fault was never reached"
            return
        assert code == 9
    pytest.fail("the build never got through")


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_an_error_of_the_disk_is_told_and_leaves_nothing(
    store: Store, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os if step == "fsync" else Path, step, fail)
        with pytest.raises((ArtifactError, OSError), match="No space left"):
            build(store)
    assert store.entries() == []
    assert not build(store).reused


def test_resumable_work_goes_on_where_it_stopped(store: Store) -> None:
    def first(folder: Path) -> dict[str, Any]:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "step").write_text("7")
        raise KeyboardInterrupt

    def second(folder: Path) -> dict[str, Any]:
        return make_story(folder) | {"resumed_at": (folder / "checkpoints" / "step").read_text()}

    with pytest.raises(KeyboardInterrupt):
        build(store, first, resumable=True)
    ref = build(store, second, resumable=True, discard=("checkpoints",))
    assert ref.summary["resumed_at"] == "7"
    assert not (ref.path / "checkpoints").exists()
    assert not any(name.startswith("checkpoints") for name in ref.manifest.files)


def _slow_build(root: Path, log: Path) -> None:
    def slow(folder: Path) -> dict[str, Any]:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.5)
        return make_story(folder)

    build(Store(root), slow)


def test_two_processes_make_one_result(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "makers"
    processes = [FORK.Process(target=_slow_build, args=(store.root, log)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(log.read_text().split()) == 1
    assert len(store.entries()) == 1


def test_a_killed_holder_frees_its_lock_and_a_waiter_says_for_whom(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "makers"
    holder = FORK.Process(target=_slow_build, args=(store.root, log))
    holder.start()
    deadline = time.monotonic() + 10
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    killer = FORK.Process(target=lambda: (time.sleep(0.2), os.kill(holder.pid or 0, 9)))
    killer.start()
    assert not build(store).reused
    assert f"process {holder.pid}" in caplog.text
    holder.join()
    killer.join()


@pytest.mark.parametrize("damage", ["altered", "truncated", "missing", "manifest"])
def test_damage_is_found_and_mended(store: Store, damage: str) -> None:
    ref = build(store)
    file = ref.path / ("manifest.json" if damage == "manifest" else "story.txt")
    if damage == "missing":
        file.unlink()
    else:
        file.write_text("" if damage in ("truncated", "manifest") else "A STORY\n")
    (problem,) = store.verify().values()
    assert problem is not None
    assert file.name in problem or "manifest" in problem
    again = build(store)
    assert not again.reused
    assert set(store.verify().values()) == {None}
    assert len(list((store.root / "story").glob(".damaged-*"))) == 1


def test_gc_keeps_the_newest_and_their_ancestors(store: Store) -> None:
    old = build(store)
    parent = store.build("story", 2, Settings(words="two"), {}, lambda f: {"n": (f / "x").write_text("2")})
    store.build("story", 3, Settings(words="three"), {}, lambda f: {"n": (f / "x").write_text("3")})
    child = store.build("child", 1, Settings(), {"story": parent}, make_story)
    (store.root / "story" / ".work-0123456789abcdef").mkdir()
    foreign = [store.root / "project" / name for name in (".venv-peers", ".work-mine", ".damaged-0123")]
    for path in foreign:
        path.mkdir(parents=True)
    planned = store.gc(1, dry_run=True)
    assert old.path.exists()
    removed = store.gc(1)
    assert removed == planned
    assert old.path in removed
    assert not old.path.exists()
    assert not (store.root / "story" / ".work-0123456789abcdef").exists()
    assert all(path.exists() for path in foreign), "the root need not be a store's alone"
    assert parent.path.exists(), "the ancestor of a kept artifact went"
    assert child.path.exists()


def test_newest_model_is_found_and_named_when_missing(store: Store) -> None:
    with pytest.raises(DataError, match="tinylm run"):
        find_model(store, None)
    for version in (1, 2):
        newest = store.build("model", version, Settings(), {}, make_story)
    assert find_model(store, None) == newest.path / "model.safetensors"
    assert find_model(store, newest.key[:8]) == newest.path / "model.safetensors"
    for absent in ("absent.safetensors", "y" * 300):
        with pytest.raises(DataError, match="no such file"):
            find_model(store, absent)


def test_a_folder_is_told_from_a_model(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    told = f"{folder}: is a folder without model.safetensors; name the model file itself"
    with pytest.raises(DataError, match=f"{told}$"):
        find_model(store, str(folder))
    (folder / "mine.safetensors").touch()
    with pytest.raises(DataError, match=f"{told}, such as {folder}/mine.safetensors$"):
        find_model(store, str(folder))
    (folder / "model.safetensors").touch()
    assert find_model(store, str(folder)) == folder / "model.safetensors"


def test_manifest_tells_where_an_artifact_came_from(store: Store) -> None:
    parent = build(store)
    child = store.build("child", 4, Settings(words="x"), {"story": parent}, make_story, content={"machine": "m"})
    told = json.loads((child.path / "manifest.json").read_text())
    assert told["stage_version"] == 4
    assert told["config"] == {"words": "x"}
    assert told["inputs"]["story"]["key"] == parent.key
    assert told["content"] == {"machine": "m"}
    assert told["tools"]["python"]
    assert told["wall_s"] >= 0
