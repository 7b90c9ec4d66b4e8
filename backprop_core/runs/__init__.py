"""Runs on disk: what was started, what became of it, and how to speak to one that is going on."""
