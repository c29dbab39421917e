"""What should happen to this recipient: what the operator wrote in smtpd.conf, understood and asked."""
