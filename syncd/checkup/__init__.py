"""Checks of a machine and of projects, each with its verdict and its mend. Nothing is changed.

examine    all checks of a call, in order
messages   the messages: sides, readable files and rows, ids, dates
database   what stands in the database beside the messages
agents     the agent that covers a project
disk       where a project lies: file system, space, permissions, header
machine    SQLite, file events, clock, settings
check      what a check says
"""
