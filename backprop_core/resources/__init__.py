"""What decides whether a run may start and go on: samples, probes, policy, slots."""
