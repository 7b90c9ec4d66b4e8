"""`timebox` and its loops: where a plain loop is, what it keeps, and how it comes back."""
