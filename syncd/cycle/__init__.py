"""One project compared, and both sides made equal."""
