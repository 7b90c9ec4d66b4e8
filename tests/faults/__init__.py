"""Broken on purpose: kills, full disks, power loss, flipped bits and hostile folders."""
