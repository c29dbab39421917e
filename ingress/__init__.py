"""How a message gets in: SMTP on TCP and on the local socket, and sendmail's drop."""
