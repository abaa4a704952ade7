"""The end of a migration, and undoing it."""
