"""The processors' own counters of energy, on a made-up /sys."""

from __future__ import annotations

from pathlib import Path

from backprop_core.resources.probes.host import Host
from backprop_core.resources.probes.rapl import Rapl


def _zone(root: Path, name: str, kind: str, energy: object, most: object = 1000_000_000) -> Path:
    zone = root / "sys/class/powercap" / name
    zone.mkdir(parents=True, exist_ok=True)
    for file, content in (("name", kind), ("energy_uj", energy), ("max_energy_range_uj", most)):
        (zone / file).write_text(f"{content}\n")
    return zone


def test_packages_are_summed_and_what_lies_within_them_is_not(tmp_path: Path) -> None:
    """Two packages count together; their cores, and the whole platform, which holds them, do not count again."""
    zones = [_zone(tmp_path, f"intel-rapl:{n}", f"package-{n}", 5_000_000) for n in (0, 1)]
    _zone(tmp_path, "intel-rapl:0:0", "core", 5_000_000)
    _zone(tmp_path, "intel-rapl:2", "psys", 5_000_000)
    rapl = Rapl(tmp_path)
    assert rapl.read() == 0.0
    for zone in zones:
        (zone / "energy_uj").write_text("7500000\n")
    assert rapl.read() == 5.0
    assert Host(root=tmp_path).read().cpu_energy_j == 0.0


def test_a_counter_that_is_full_begins_anew(tmp_path: Path) -> None:
    """From just below its end to just behind its beginning it has counted what lies between."""
    zone = _zone(tmp_path, "intel-rapl:0", "package-0", 999_000_000)
    rapl = Rapl(tmp_path)
    rapl.read()
    (zone / "energy_uj").write_text("1000000")
    assert rapl.read() == 2.0


def test_what_cannot_be_read_is_not_known(tmp_path: Path) -> None:
    """No folder, no right, nonsense and a counter that went away give nothing, and raise nothing."""
    assert Rapl(tmp_path).read() is None
    zone = _zone(tmp_path, "intel-rapl:0", "package-0", "much")
    assert Rapl(tmp_path).read() is None
    (zone / "energy_uj").write_text("1")
    rapl = Rapl(tmp_path)
    assert rapl.read() == 0.0
    (zone / "energy_uj").unlink()
    assert rapl.read() is None
