"""The losses: torch's names, order and defaults, the value and the gradient of each family in one file."""
