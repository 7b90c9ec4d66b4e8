"""What the core asks of others, as protocols."""
