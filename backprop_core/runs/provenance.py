"""What a run was started from: the script's digest and the git commit around it, read without starting a
process.
"""

from __future__ import annotations

from pathlib import Path

import xxhash

_CHUNK_BYTES = 1024 * 1024
_MAX_SCRIPT_BYTES = 64 * 1024 * 1024


def script_digest(path: Path) -> str | None:
    """xxh3-128 of a script, in hex; None if it is no file that can be read."""
    digest = xxhash.xxh3_128()
    try:
        if not path.is_file() or path.stat().st_size > _MAX_SCRIPT_BYTES:
            return None
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except (OSError, ValueError):
        return None
    return digest.hexdigest()


def git_commit(folder: Path) -> str | None:
    """The commit that the git checkout around `folder` is at; None outside of one or where it cannot be
    told.
    """
    try:
        for place in (folder, *folder.parents):
            git = place / ".git"
            if git.exists():
                return _head(_git_dir(git))
    except (OSError, ValueError):
        return None
    return None


def _git_dir(git: Path) -> Path:
    if git.is_dir():
        return git
    return (git.parent / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()).resolve()


def _head(git: Path) -> str | None:
    head = (git / "HEAD").read_text(encoding="utf-8").strip()
    if not head.startswith("ref:"):
        return _as_commit(head)
    name = head.removeprefix("ref:").strip()
    shared = git / "commondir"  # a worktree keeps its branches in the main checkout
    places = [git, (git / shared.read_text(encoding="utf-8").strip()).resolve()] if shared.exists() else [git]
    for place in places:
        if (place / name).is_file():
            return _as_commit((place / name).read_text(encoding="utf-8").strip())
    for place in places:
        if (place / "packed-refs").is_file():
            for line in (place / "packed-refs").read_text(encoding="utf-8").splitlines():
                commit, _, ref = line.partition(" ")
                if ref == name:
                    return _as_commit(commit)
    return None


def _as_commit(text: str) -> str | None:
    return text if len(text) in (40, 64) and all(c in "0123456789abcdef" for c in text) else None
