"""Documents that answers rest on: read, cut into passages, searched, and used to check what a model says."""
