"""A program's part of the contract in `state_contract.py`: kinds of state, data that keeps state, a trace of what was seen.

The package is copied beside a program, so that its classes are the program's own and no part of an installed package.
"""
