"""The files that an unmodified script writes while it trains: as long at a resume as they were at the checkpoint."""
