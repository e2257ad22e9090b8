"""Training: the loop, one step, what surrounds them."""
