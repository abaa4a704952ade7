"""The mailbox folders and the files in them."""
