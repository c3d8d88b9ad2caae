"""Changed inputs for every reader of files from elsewhere."""
