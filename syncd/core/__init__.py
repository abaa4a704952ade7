"""The pure core: messages, and what becomes of them; no file, no database, no clock."""
