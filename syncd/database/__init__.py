"""The database: the host's rows, and what syncd keeps beside them."""
