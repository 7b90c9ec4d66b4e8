"""How long a run may take and when it must stop or save. Pure: facts in, a decision out, no clock and no disk."""
