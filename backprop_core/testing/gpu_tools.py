"""Stand-ins for `nvidia-smi`, `rocm-smi` and `amd-smi`: real executables whose answer can change while they are used.

Put `FakeGpuTools.directory` first on PATH. Each tool reads `state.json` beside it every time it is called, so a test,
or another process, may change what it says between two calls.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TOOLS = ("nvidia-smi", "rocm-smi", "amd-smi")
MODES = ("ok", "crash", "hang", "nonsense", "empty", "torn", "no-devices", "old")


class FakeGpuTools:
    """Writes the tools into `directory`.

    Args:
        directory: made if missing.
        tools: which of `TOOLS` there are.
    """

    def __init__(self, directory: Path, tools: Sequence[str] = ("nvidia-smi",)) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.say()
        for tool in tools:
            path = directory / tool
            # Isolated and without site: a tool that takes 100 ms to start would make every test slow.
            path.write_text(f"#!{sys.executable} -IS\n{_PROGRAM}", encoding="utf-8")
            path.chmod(0o755)

    def say(self, *gpus: dict[str, Any], mode: str = "ok") -> None:
        """What the tools answer from now on.

        Args:
            gpus: for each the keys of `gpu`.
            mode: one of `MODES`; "old" knows no MIG, "hang" never answers.
        """
        temporary = self.directory / f"state.json.{os.getpid()}"
        temporary.write_text(json.dumps({"gpus": gpus, "mode": mode}), encoding="utf-8")
        temporary.replace(self.directory / "state.json")

    def environ(self, environ: dict[str, str] | None = None) -> dict[str, str]:
        """`environ` (default: this process's) with the tools first on PATH."""
        base = dict(os.environ if environ is None else environ)
        return {**base, "PATH": f"{self.directory}{os.pathsep}{base.get('PATH', '')}"}

    def calls(self) -> list[list[str]]:
        """The command lines of all calls so far."""
        path = self.directory / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def gpu(
    index: int = 0,
    *,
    uuid: str | None = None,
    name: str = "Fake GPU",
    total_mib: Any = 24_576,
    used_mib: Any = 1_024,
    temperature_c: Any = 45,
    utilization_percent: Any = 3,
    power_w: Any = 60.5,
    mig: Sequence[str] | None = None,
    processes: dict[int, int] | None = None,
) -> dict[str, Any]:
    """One GPU for `FakeGpuTools.say`. A value of None is one that the tool does not tell."""
    return {
        "index": index,
        "uuid": uuid or f"GPU-{index:08d}-0000-0000-0000-000000000000",
        "name": name,
        "total_mib": total_mib,
        "used_mib": used_mib,
        "temperature_c": temperature_c,
        "utilization_percent": utilization_percent,
        "power_w": power_w,
        "mig": None if mig is None else list(mig),
        "processes": {str(pid): mib for pid, mib in (processes or {}).items()},
    }


_PROGRAM = """
import json, os, sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOOL = os.path.basename(__file__)
NA = "[N/A]"


def main():
    with open(os.path.join(HERE, "calls.jsonl"), "a") as file:
        file.write(json.dumps([TOOL, *sys.argv[1:]]) + "\\n")
    with open(os.path.join(HERE, "state.json")) as file:
        state = json.load(file)
    mode, gpus = state["mode"], state["gpus"]
    if mode == "crash":
        print("Failed to initialize the driver", file=sys.stderr)
        os.kill(os.getpid(), 11)
    if mode == "hang":
        if os.fork() == 0:
            sys.stdin.close()
        while True:
            os.read(os.pipe()[0], 1)
    if mode == "nonsense":
        print('{"gpus": [[[}{ 12, \\x00\\xff, GPU-, -5 MiB, "unterminated')
        return 0
    if mode == "empty":
        return 0
    if mode == "no-devices":
        print("No devices were found")
        return 6 if TOOL == "nvidia-smi" else 0
    text = ANSWERS[TOOL](gpus, mode)
    sys.stdout.write(text[: len(text) * 2 // 3] if mode == "torn" else text)
    return 0


def shown(value):
    return NA if value is None else str(value)


def free(gpu):
    return None if gpu["total_mib"] is None or gpu["used_mib"] is None else gpu["total_mib"] - gpu["used_mib"]


def nvidia_smi(gpus, mode):
    if "-L" in sys.argv:
        lines = []
        for gpu in gpus:
            lines.append(f"GPU {gpu['index']}: {gpu['name']} (UUID: {gpu['uuid']})")
            for number, uuid in enumerate(gpu["mig"] or []):
                lines.append(f"  MIG 1g.10gb     Device  {number}: (UUID: {uuid})")
        return "\\n".join(lines) + "\\n"
    for word in sys.argv:
        if word.startswith("--query-compute-apps="):
            return "".join(
                f"{gpu['uuid']}, {pid}, {mib}\\n" for gpu in gpus for pid, mib in gpu["processes"].items()
            )
    (query,) = [word for word in sys.argv if word.startswith("--query-gpu=")]
    fields = query.partition("=")[2].split(",")
    if mode == "old" and "mig.mode.current" in fields:
        print('Field "mig.mode.current" is not a valid field to query.')
        sys.exit(2)
    table = {
        "index": lambda gpu: gpu["index"],
        "uuid": lambda gpu: gpu["uuid"],
        "name": lambda gpu: gpu["name"],
        "memory.total": lambda gpu: gpu["total_mib"],
        "memory.used": lambda gpu: gpu["used_mib"],
        "memory.free": free,
        "temperature.gpu": lambda gpu: gpu["temperature_c"],
        "utilization.gpu": lambda gpu: gpu["utilization_percent"],
        "power.draw": lambda gpu: gpu["power_w"],
        "mig.mode.current": lambda gpu: None if gpu["mig"] is None else "Enabled",
    }
    return "".join(", ".join(shown(table[field](gpu)) for field in fields) + "\\n" for gpu in gpus)


def rocm_smi(gpus, mode):
    cards = {}
    for gpu in gpus:
        card = {
            "Unique ID": "0x" + gpu["uuid"].replace("GPU-", "").replace("-", "")[:16],
            "Card Series": gpu["name"],
            "Temperature (Sensor edge) (C)": gpu["temperature_c"],
            "Temperature (Sensor junction) (C)": gpu["temperature_c"],
            "GPU use (%)": gpu["utilization_percent"],
            "Average Graphics Package Power (W)": gpu["power_w"],
            "VRAM Total Memory (B)": None if gpu["total_mib"] is None else gpu["total_mib"] * 1024**2,
            "VRAM Total Used Memory (B)": None if gpu["used_mib"] is None else gpu["used_mib"] * 1024**2,
        }
        cards[f"card{gpu['index']}"] = {key: "N/A" if value is None else str(value) for key, value in card.items()}
    return "WARNING: AMD GPU device(s) is/are in a low-power state.\\n" + json.dumps(cards) + "\\n"


def amd_smi(gpus, mode):
    def value(number, unit):
        return "N/A" if number is None else {"value": number, "unit": unit}

    if "list" in sys.argv:
        items = [{"gpu": gpu["index"], "bdf": "0000:05:00.0", "uuid": gpu["uuid"]} for gpu in gpus]
    else:
        items = [
            {
                "gpu": gpu["index"],
                "usage": {"gfx_activity": value(gpu["utilization_percent"], "%")},
                "power": {"socket_power": value(gpu["power_w"], "W")},
                "temperature": {"edge": "N/A", "hotspot": value(gpu["temperature_c"], "C")},
                "mem_usage": {
                    "total_vram": value(gpu["total_mib"], "MB"),
                    "used_vram": value(gpu["used_mib"], "MB"),
                    "free_vram": value(free(gpu), "MB"),
                },
            }
            for gpu in gpus
        ]
    return json.dumps(items if mode == "old" else {"gpu_data": items}) + "\\n"


ANSWERS = {"nvidia-smi": nvidia_smi, "rocm-smi": rocm_smi, "amd-smi": amd_smi}
sys.exit(main())
"""
