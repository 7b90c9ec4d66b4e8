"""What backprop knows of PyTorch. Woken by the core when the process has imported torch."""
