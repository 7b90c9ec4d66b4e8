"""Loops with Lightning Fabric: under `backprop run` and in `backprop.timebox` they need no word more than plain ones."""
