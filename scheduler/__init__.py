"""When, how many at once, and when do we give up.

One message's way: `planner` finds its lane due in the spool's index and claims it; `pool` keeps it until a session is free
and it is its lane's turn; `sessions` has the batch tried; `health` says what the outcome means for the route, `retry` when
to try again; `recorder` has the spool write it down. `runner` is the whole of it, and what the daemon talks to.
"""
