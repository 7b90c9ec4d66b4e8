"""Sinks for the events of a run, and the process that each of them has: see `backprop_core.events.sinks`."""
