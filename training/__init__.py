"""Programs that train what the package ships; not installed with it."""
