"""The language of smtpd.conf: tokens to statements. What the statements mean together is the business of `policy.build`."""
