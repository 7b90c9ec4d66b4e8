"""What an attempt was started from: code, packages, machine. Kept with the run, so that two runs can be told apart later."""
