"""What we have promised to deliver: the words of mail, and the disk they are kept on.

The spool is the truth; everything else may die at any instant. The contract, instant by instant:

=====  ==========================================  ====================================================
state  on disk                                     after a crash
=====  ==========================================  ====================================================
A0     nothing, or a body file without a row       the client saw no 250 and tries again; an orphan file
                                                   is set aside, never delivered
A1     message, body and envelopes in one commit   we own the message: it is delivered, whether or not
                                                   the 250 was still read (then the client may send twice)
D1     envelope INFLIGHT under a lease             the lease of an earlier start is void: READY again
D2     the next hop said yes, not yet recorded     tried again: at most what was in flight is sent twice;
                                                   Maildir and mbox recognise their own copy
D3     outcome recorded                            final; with the last envelope the body goes too
B1     failure recorded                            its bounce is READY: the same commit made both
B2     report accepted                             the bounce is settled: the same commit made both
=====  ==========================================  ====================================================

``docs/durability.md`` explains each row and names the test that holds it.

Rules: one process writes (a lock on the spool for its whole life), through one connection, in one thread; SQLite
runs in WAL with ``synchronous=FULL``; a large body is fsynced, and its directory too, before the commit that names it;
after a failed fsync the process ends without another answer.
"""
