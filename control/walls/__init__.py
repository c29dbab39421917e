"""The walls of a process: what it cannot do any more, whatever a stranger makes it do.

A role raises them once, right after it was forked (`control.walls.raising`): it becomes its user and gives up everything
that root has (`control.walls.privileges`), sees only the files that it needs (`control.walls.landlock`), and can make only
the system calls that it needs (`control.walls.seccomp`). Which these are is said in one place, `control.walls.presets`.
"""
