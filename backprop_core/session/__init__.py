"""The engine of one attempt inside the training process."""
