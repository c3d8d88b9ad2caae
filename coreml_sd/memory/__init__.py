"""How much of a pipeline is in memory: policies, measurement and its plot."""
