"""Options: one table, and where their values come from."""
