"""What the fault harness is made of."""
