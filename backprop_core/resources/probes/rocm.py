"""AMD GPUs: `amd-smi --json`, and where that is missing or does not answer `rocm-smi --json`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from backprop_core.resources.probes.numbers import consistent, number, percent, power, size, temperature
from backprop_core.resources.probes.tool import TIMEOUT_S, Answer, ask
from backprop_core.resources.samples import MIB, GpuReading, GpuSample

_AMD_METRIC = ("amd-smi", "metric", "--mem-usage", "--temperature", "--usage", "--power", "--json")
_AMD_LIST = ("amd-smi", "list", "--json")
_ROCM = (
    "rocm-smi",
    "--showuniqueid",
    "--showproductname",
    "--showmeminfo",
    "vram",
    "--showtemp",
    "--showuse",
    "--showpower",
    "--json",
)
_CARD = re.compile(r"card(\d+)")
_UNITS = {"B": 1, "KB": 1024, "KIB": 1024, "MB": MIB, "MIB": MIB, "GB": 1024 * MIB, "GIB": 1024 * MIB}


class Rocm:
    """Asks AMD's tools. A GPU is given to a process by its index: not every card tells a unique id."""

    name = "rocm"

    def __init__(self, *, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s

    def read(self) -> GpuReading:
        troubles = []
        for reading in (self._amd_smi, self._rocm_smi):
            gpus, trouble = reading()
            if gpus is not None:
                return GpuReading(tuple(gpus), self.name)
            troubles.append(trouble)
        return GpuReading(None, self.name, tuple(troubles))

    def memory_by_pid(self) -> dict[str, dict[int, int]] | None:
        return None

    def close(self) -> None:
        pass

    def _amd_smi(self) -> tuple[list[GpuSample] | None, str]:
        answer = ask(_AMD_METRIC, timeout_s=self._timeout_s)
        items = _items(_json(answer))
        if items is None:
            return None, answer.trouble or "amd-smi printed something other than a list of GPUs."
        known = {
            str(item.get("gpu")): item
            for item in _items(_json(ask(_AMD_LIST, timeout_s=self._timeout_s))) or []
        }
        gpus = [_from_amd_smi(item, known.get(str(item.get("gpu")), {})) for item in items]
        return [gpu for gpu in gpus if gpu is not None], ""

    def _rocm_smi(self) -> tuple[list[GpuSample] | None, str]:
        answer = ask(_ROCM, timeout_s=self._timeout_s)
        content = _json(answer)
        if not isinstance(content, dict):
            return None, answer.trouble or "rocm-smi printed something other than a table of GPUs."
        cards = [(int(m[1]), card) for key, card in content.items() if (m := _CARD.fullmatch(str(key)))]
        if not cards and content:
            return None, "rocm-smi printed something other than a table of GPUs."
        return [_from_rocm_smi(index, card) for index, card in sorted(cards, key=lambda item: item[0])
                if isinstance(card, dict)], ""  # fmt: skip


def _json(answer: Answer) -> Any:
    """The JSON in an answer, which may have warnings printed before it; None if there is none."""
    starts = [place for place in (answer.text.find("{"), answer.text.find("[")) if place >= 0]
    for start in sorted(starts):
        try:
            return json.JSONDecoder().raw_decode(answer.text, start)[0]
        except (ValueError, RecursionError):
            continue
    return None


def _items(content: Any) -> list[Mapping[str, Any]] | None:
    """The GPUs in what amd-smi prints: a list, or since ROCm 7 an object around one."""
    if isinstance(content, dict):
        content = content.get("gpu_data")
    if not isinstance(content, list):
        return None
    items: list[Mapping[str, Any]] = [
        item for item in content if isinstance(item, dict) and _index(item) is not None
    ]
    return items if items or not content else None


def _index(item: Mapping[str, Any]) -> int | None:
    index = item.get("gpu")
    return index if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < 4096 else None


def _from_amd_smi(item: Mapping[str, Any], known: Mapping[str, Any]) -> GpuSample | None:
    index = _index(item)
    if index is None:
        return None
    memory, heat = _part(item, "mem_usage"), _part(item, "temperature")
    sizes = consistent(*(_sized(memory.get(key)) for key in ("total_vram", "used_vram", "free_vram")))
    uuid = known.get("uuid")
    return GpuSample(
        uuid=uuid if isinstance(uuid, str) and uuid not in ("", "N/A") else f"amd-{index}",
        visible=str(index),
        vendor="amd",
        index=index,
        memory_total_bytes=sizes[0],
        memory_used_bytes=sizes[1],
        memory_free_bytes=sizes[2],
        temperature_c=_hottest([_value(heat.get("edge")), _value(heat.get("hotspot"))]),
        utilization_percent=percent(_value(_part(item, "usage").get("gfx_activity"))),
        power_w=power(_value(_part(item, "power").get("socket_power"))),
    )


def _from_rocm_smi(index: int, card: Mapping[str, Any]) -> GpuSample:
    def find(*words: str) -> Any:
        """The value of the key that holds all the words: the keys differ between versions."""
        for key, value in card.items():
            if all(word in str(key).lower() for word in words):
                return value
        return None

    total, used = size(find("vram total memory"), 1), size(find("vram total used"), 1)
    sizes = consistent(total, used, None)
    uuid, name = find("unique id"), find("card series") or find("card model")
    return GpuSample(
        uuid=f"GPU-{uuid.removeprefix('0x')}"
        if isinstance(uuid, str) and uuid.startswith("0x")
        else f"amd-{index}",
        visible=str(index),
        vendor="amd",
        index=index,
        name=name if isinstance(name, str) and name != "N/A" else None,
        memory_total_bytes=sizes[0],
        memory_used_bytes=sizes[1],
        memory_free_bytes=sizes[2],
        temperature_c=_hottest([find("temperature", "edge"), find("temperature", "junction")]),
        utilization_percent=percent(find("gpu use")),
        power_w=power(find("power", "(w)")),
    )


def _part(item: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = item.get(key)
    return part if isinstance(part, dict) else {}


def _value(field: Any) -> Any:
    """The number in `{"value": 35, "unit": "C"}`, or in the bare form of older versions."""
    return field.get("value") if isinstance(field, dict) else field


def _sized(field: Any) -> int | None:
    unit = str(field.get("unit", "MB")).upper() if isinstance(field, dict) else "MB"
    return size(number(_value(field)), _UNITS[unit]) if unit in _UNITS else None


def _hottest(fields: Sequence[Any]) -> float | None:
    """The edge's temperature; chips without that sensor tell the hotspot's."""
    return next((heat for heat in map(temperature, fields) if heat is not None), None)
