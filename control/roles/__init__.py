"""The roles of the daemon, each put together from the rooms that it needs.

A role is given whatever lies outside of it as arguments: the room itself where all roles share a process (`control.daemon`),
or its face at the end of a channel where each has one of its own (`control.separated`).
"""
