"""Trainings under a real SLURM of one machine: Debian's slurm-wlm and munge, started by the tests as root."""
