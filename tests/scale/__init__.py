"""Trainings over several hosts, and under Ray and Optuna: what needs root, or packages that are installed apart."""
