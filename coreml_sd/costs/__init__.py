"""What saved files cost, counted without executing them."""
