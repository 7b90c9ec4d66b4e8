"""What runs when the interpreter of a script under `backprop run` starts. Imports nothing but the standard library."""
