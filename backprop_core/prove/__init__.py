"""A proof that a training cut into pieces gives the same bits: what each boundary held, written down, and compared."""
