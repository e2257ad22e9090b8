"""Networks as their papers have them."""
