"""Hostile checkpoint folders: every digest in them is right, so nothing but the reader's care stands in the way."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xxhash

SEAL = '"manifest_xxh3_128": "' + "0" * 32 + '"'
TREE: dict[str, Any] = {
    "w": {"$": "node", "by": "blob", "tag": "blob", "meta": {}, "name": "w", "arrays": {"": "w"}}
}
HEADER: dict[str, Any] = {"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}


class Bomb:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("executed",))


def digest(data: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(data)


def safetensors(header: Any, body: bytes = b"abcd", *, length: int | None = None) -> bytes:
    """A file of that format with any header: an object, or text that need not be JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def forge(
    folder: Path,
    *,
    tree: Any = None,
    arrays: bytes | None = None,
    change: Callable[[dict[str, Any]], None] = lambda manifest: None,
    text: Callable[[str], str] = lambda manifest: manifest,
) -> Path:
    """A checkpoint folder; `change` alters the manifest as an object, `text` as text, before it is sealed."""
    folder.mkdir()
    files = {
        "model.json": tree
        if isinstance(tree, bytes)
        else json.dumps(TREE if tree is None else tree).encode(),
        "model.safetensors": safetensors(HEADER) if arrays is None else arrays,
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    manifest: dict[str, Any] = {
        "backprop_checkpoint": 1, "run": "r", "attempt": 1, "box": 1, "step": 1, "epoch": 0, "batch": 0,
        "reason": "periodic", "made_utc": "", "made_wall_s": 1.0, "save_s": 0.1, "slack_s": None, "cursor": None,
        "environment": {}, "extra": {}, "objects": {"model": {"tree": "model.json", "arrays": "model.safetensors"}},
        "files": {name: {"bytes": len(data), "xxh3_128": digest(data)} for name, data in files.items()},
    }  # fmt: skip
    change(manifest)
    raw = text(json.dumps(manifest)[:-1] + ", " + SEAL + "}")
    sealed = (
        raw[: raw.rindex(SEAL)]
        + SEAL.replace("0" * 32, digest(raw.encode()))
        + raw[raw.rindex(SEAL) + len(SEAL) :]
    )
    (folder / "manifest.json").write_text(sealed)
    return folder


def _file(name: str, content: bytes) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][name] = {"bytes": len(content), "xxh3_128": digest(content)}
        manifest["objects"]["model"]["tree"] = name

    return change


def _set(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest.__setitem__(key, value)


def _linked(folder: Path) -> None:
    secret = folder.parent / "secret.json"
    secret.write_bytes((folder / "model.json").read_bytes())
    (folder / "model.json").unlink()
    (folder / "model.json").symlink_to(secret)


def _pipe(folder: Path) -> None:
    (folder / "model.json").unlink()
    os.mkfifo(folder / "model.json")


def _sparse(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 1 << 43)


def _folder_for_file(folder: Path) -> None:
    (folder / "model.json").unlink()
    (folder / "model.json").mkdir()


def _huge_manifest(folder: Path) -> None:
    with (folder / "manifest.json").open("ab") as file:
        file.truncate(1 << 40)


def _claims(nbytes: int) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["files"]["model.safetensors"].__setitem__("bytes", nbytes)


DEEP = 200_000
NODE = TREE["w"]
TREES: dict[str, Any] = {
    "deep tree": b"[" * DEEP + b"]" * DEEP,
    "tree just too deep": b"[" * 980 + b"]" * 980,
    "deep kinds": b'{"$":"tuple","items":[' * 450 + b"]}" * 450,
    "a key twice": b'{"a": 1, "a": 2}',
    "NaN": b'{"a": NaN}',
    "an endless number": b'{"a": ' + b"9" * 100_000 + b"}",
    "infinity by exponent": {"$": "timedelta", "microseconds": 10**300},
    "a pickle": pickle.dumps(Bomb()),
    "not UTF-8": b"\xff\xfe[]",
    "empty": b"",
    "unknown kind": {"$": "pickle", "data": "gASVHQ=="},
    "kind that is a list": {"$": ["tuple"], "items": []},
    "kind that is nothing": {"$": 5},
    "alias of nothing": {"$": "same", "as": "w"},
    "array that is not there": {**NODE, "arrays": {"": "nowhere"}},
    "array of another file": {**NODE, "arrays": {"": "../other/w"}},
    "unknown part": {**NODE, "arrays": {"x": "w"}},
    "no meta": {key: value for key, value in NODE.items() if key != "meta"},
    "mapping with a key twice": {"$": "dict", "items": [[1, 2], [1, 3]]},
    "set with a member twice": {"$": "set", "items": [1, 1]},
    "set of lists": {"$": "set", "items": [[]]},
    "factory of anything": {"$": "defaultdict", "factory": "eval", "items": []},
    "bad base64": {"$": "bytes", "base64": "!!!"},
    "short float": {"$": "float", "bits": "00"},
    "negative deque": {"$": "deque", "maxlen": -1, "items": []},
    "impossible date": {"$": "date", "iso": "2026-02-30"},
    "impossible zone": {"$": "time", "naive": "01:00", "fold": 0, "zone": [10**15]},
    "items that are a number": {"$": "tuple", "items": 5},
    "pairs that are not": {"$": "dict", "items": [[1]]},
    "odd hex": {"$": "int", "hex": "0xzz"},
    "numpy objects": {"$": "node", "by": "numpy", "tag": "scalar", "meta": {"dtype": "O", "hex": "00" * 8}},
    "numpy subarrays": {"$": "node", "by": "numpy", "tag": "scalar", "meta": {"dtype": "(99999,99999)f8", "hex": ""}},
    "numpy records": {"$": "node", "by": "numpy", "tag": "scalar", "meta": {"dtype": "i4,O", "hex": "00" * 12}},
    "numpy giants": {
        "$": "node", "by": "numpy", "tag": "ndarray", "name": "w", "arrays": {"": "w"},
        "meta": {"dtype": "uint8", "shape": [1 << 50]},
    },
}  # fmt: skip

ENTRY = HEADER["w"]
ARRAYS: dict[str, bytes] = {
    "header of petabytes": safetensors(HEADER, length=1 << 50),
    "header of everything": safetensors(HEADER, length=(1 << 64) - 1),
    "array of petabytes": safetensors({"w": {**ENTRY, "shape": [1 << 50], "data_offsets": [0, 1 << 50]}}),
    "shape of petabytes": safetensors({"w": {**ENTRY, "shape": [1 << 50]}}),
    "shape that overflows": safetensors({"w": {**ENTRY, "shape": [1 << 62] * 900 + [0]}}),
    "array with a gap": safetensors({"w": {**ENTRY, "shape": [3], "data_offsets": [1, 4]}}),
    "arrays that overlap": safetensors({"w": ENTRY, "v": ENTRY}),
    "negative offset": safetensors({"w": {**ENTRY, "data_offsets": [-4, 0]}}),
    "offsets backwards": safetensors({"w": {**ENTRY, "data_offsets": [4, 0]}}),
    "offsets that are floats": safetensors({"w": {**ENTRY, "data_offsets": [0.0, 4.0]}}),
    "shape that is true": safetensors({"w": {**ENTRY, "shape": [True, 4]}}),
    "unknown dtype": safetensors({"w": {**ENTRY, "dtype": "PICKLE"}}),
    "more than it says": safetensors(HEADER, b"abcdefgh"),
    "less than it says": safetensors(HEADER, b"a"),
    "header that is a list": safetensors([1]),
    "entry that is a list": safetensors({"w": []}),
    "header with a key twice": safetensors(b'{"w": {}, "w": {}}'),
    "deep header": safetensors(b'{"w":' * DEEP + b"1" + b"}" * DEEP),
    "a pickle of arrays": pickle.dumps(Bomb()),
    "nothing at all": b"",
}

MANIFESTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "name upwards": _file("../secret.json", b"{}"),
    "absolute name": _file("/etc/hostname", b"x"),
    "name in a folder": _file("a/b.json", b"{}"),
    "hidden name": _file(".hidden", b"{}"),
    "name with a zero": _file("a\0b", b"{}"),
    "itself": _file("manifest.json", b"{}"),
    "file that is not there": _file("other.json", b"{}"),
    "negative step": _set("step", -1),
    "step that is text": _set("step", "1"),
    "step that is a fraction": _set("step", 1.5),
    "step that is true": _set("step", True),
    "unknown reason": _set("reason", "whim"),
    "no objects": _set("objects", None),
    "objects without files": _set("objects", {"x": {"tree": "x.json", "arrays": None}}),
    "objects that are text": _set("objects", {"x": "y"}),
    "files that are a list": _set("files", []),
    "size of petabytes": _claims(1 << 50),
    "size that is negative": _claims(-1),
    "no version": _set("backprop_checkpoint", None),
    "version that is text": _set("backprop_checkpoint", "1"),
    "cursor that runs": _set("cursor", {"$": "node", "by": "torch", "tag": "x", "meta": {}}),
    "extra that is a list": _set("extra", []),
    "time that is text": _set("made_wall_s", "now"),
    "infinite time": _set("made_wall_s", 10**400),
}

TEXTS: dict[str, Callable[[str], str]] = {
    "manifest with a key twice": lambda text: text.replace('"step": 1,', '"step": 1, "step": 2,'),
    "manifest with NaN": lambda text: text.replace('"save_s": 0.1', '"save_s": NaN'),
    "deep manifest": lambda text: text.replace('"cursor": null', '"cursor": ' + "[" * DEEP + "]" * DEEP),
    "manifest that is a list": lambda text: "[" + text + "]",
    "endless step": lambda text: text.replace('"step": 1,', '"step": ' + "1" * 100_000 + ","),
    "manifest that is two": lambda text: text + text.replace(SEAL, SEAL),
}

AFTERWARDS: dict[str, Callable[[Path], None]] = {
    "a link out of the folder": _linked,
    "a pipe that blocks": _pipe,
    "a folder for a file": _folder_for_file,
    "a manifest of terabytes": _huge_manifest,
}


def forge_all(root: Path) -> dict[str, Path]:
    """One hostile folder for each idea, by what it is."""
    folders: dict[str, Path] = {}

    def place(name: str) -> Path:
        folders[name] = root / f"{len(folders)}" / "step-000000000001"
        folders[name].parent.mkdir(parents=True)
        return folders[name]

    for name, tree in TREES.items():
        forge(place(name), tree=tree)
    for name, arrays in ARRAYS.items():
        forge(place(name), arrays=arrays)
    for name, change in MANIFESTS.items():
        forge(place(name), change=change)
    for name, text in TEXTS.items():
        forge(place(name), text=text)
    for name, harm in AFTERWARDS.items():
        harm(forge(place(name)))
    _sparse(forge(place("a sparse file of terabytes"), change=_claims(1 << 43)))
    (root / "secret.json").write_text("{}")
    return folders
