"""What to do when memory is short, and how one budget is divided."""
