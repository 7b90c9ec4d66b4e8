"""The process outside a training: starts it, passes on what it prints, ends it in time and leaves nothing
behind.

Free of any framework and of the command line; `backprop_cli` is its only caller.
"""
