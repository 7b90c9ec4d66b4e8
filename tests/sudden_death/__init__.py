"""Trainings that die without a word, and what is left of them."""
