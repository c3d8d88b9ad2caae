"""From noise to latent: schedulers, the loop on the host, and schedulers as weighted sums."""
