"""What a run has been: its curves, where its time went, and what was different between two runs."""
