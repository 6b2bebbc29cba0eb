"""Paths as people give them, and files that appear whole."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mamt_jax.errors import ConfigError
from mamt_jax.files import quoted, user_path, write_whole

ODD = [
    "[v2]", "a*b?", "{x,y}", "50%", "a#b", "~", "~tilde", "$HOME", "a&b", "a;b", "it's", 'say "x"',
    "back\\slash", "a|b", "a:b", "!", "a@b", "(1)", "a b", "new\nline", "-dash", "thèse-论文", "🐟",
    os.fsdecode(b"caf\xe9"), "tab\t", "s3:x", "a::b", "%2e%2e", "n" * 240, ".hidden", "=", "a=b,c",
]  # fmt: skip
"""Names of folders that something or other takes for more than a name."""
FEW = ["[v2]", "~", "-dash", ".hidden", "n" * 240, "s3:x", "a::b", "".join(ODD[2:-9] + ODD[-8:-6])]
"""Most of them in the last."""


def test_paths_are_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    taken = {given: user_path(given) for given in ("runs/x", "~/runs", "~", "~nobody-x/y", "a/~")}
    monkeypatch.chdir("/")
    assert taken == {
        "runs/x": tmp_path / "runs/x",
        "~/runs": tmp_path / "home/runs",
        "~": tmp_path / "home",
        "~nobody-x/y": tmp_path / "~nobody-x/y",
        "a/~": tmp_path / "a/~",
    }
    assert user_path(Path("~/x")) == tmp_path / "home/x"
    assert user_path("/a/../b") == Path("/a/../b")  # whose .. that is, links decide


def test_a_home_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as without HOME and passwd
    with pytest.raises(ConfigError, match="~/x is in a home directory, and this user has none"):
        user_path("~/x")
    assert user_path("/x") == Path("/x")


def test_an_empty_home_is_not_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "")
    for given in ("~", "~/x"):
        with pytest.raises(ConfigError, match="this user has none; set HOME"):
            user_path(given)
    assert user_path("/~") == Path("/~")


def test_a_working_directory_that_has_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigError, match="runs/x is in the working directory, which has gone"):
        user_path("runs/x")
    assert user_path("/x") == Path("/x")


@pytest.mark.parametrize("given", ["", "a\0b", 3, None, b"x"])
def test_what_is_no_path_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="is not the name of a file or folder"):
        user_path(given)


@pytest.mark.parametrize("name", ODD)
def test_a_shell_reads_quoted_paths_as_they_are(name: str) -> None:
    path = Path("/tmp") / name
    assert quoted(path).isprintable() and "\n" not in quoted(path)
    done = subprocess.run(
        ["bash", "-c", f"printf %s {quoted(path)}"], capture_output=True, check=True
    )
    assert done.stdout == os.fsencode(path)


def test_files_are_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            write_whole(path, b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
