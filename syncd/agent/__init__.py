"""Many projects at once, for as long as it runs."""
