"""What happens in a run, as typed facts, and who receives them."""
