"""Crashes at every system call that changes something, and what comes of starting again.

shim.c      counts the calls that change something below a folder, and stops at one of them
scenarios   named states of a project, each with the command that is then interrupted
driver      sets up, interrupts, starts again, and judges what came of it; runs under the shim
campaign    finds all abort points, hands them to drivers, prints the table
"""
