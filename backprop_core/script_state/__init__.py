"""What a script's own code changes while it trains, apart from models and optimizers: found by what changes, stored as a
difference from what the first boundary showed, and put back in place and by name. Knows no framework.
"""
