"""Time boxes in notebooks: `%load_ext backprop`, then `%%timebox 20m` over the cell that trains. See docs/notebooks.md."""
