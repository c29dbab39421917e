-- What an envelope can be chosen by, each a condition on envelope, message, lane or recipient; and, from "by_" on, what
-- envelopes can be counted by. See sieve.py for the statements that these go into, and for which tables they join.
-- A plus before a column keeps SQLite from going by it: the envelopes to look at are chosen before, and they are few.

-- name: sender
+message.sender_local = :sender_local AND lower(message.sender_domain) = :sender_domain

-- name: sender_anybody
lower(message.sender_domain) = :sender_domain

-- name: recipient
(envelope.local = :recipient_local AND lower(envelope.domain) = :recipient_domain
    OR recipient.local = :recipient_local AND lower(recipient.domain) = :recipient_domain)

-- name: recipient_anybody
(lower(envelope.domain) = :recipient_domain OR lower(recipient.domain) = :recipient_domain)

-- name: domain
lower(envelope.domain) = :domain

-- name: user
envelope.user = :user

-- name: action
+lane.action = :action

-- name: state
envelope.state = :state

-- name: kind
envelope.kind = :kind

-- name: error
-- As it is shown: what stops the lane, or the envelope's own trouble, or else its lane's. Letters of both cases are the same.
instr(lower(CASE WHEN lane.parked OR envelope.error = '' THEN lane.last_error ELSE envelope.error END), :error)

-- name: client
message.address = :client

-- name: login
message.login = :login

-- name: uid
message.uid = :uid

-- name: older
message.arrived <= :older

-- name: newer
message.arrived >= :newer

-- name: by_domain
envelope.domain

-- name: by_user
envelope.user

-- name: by_action
lane.action

-- name: by_state
envelope.state

-- name: by_kind
envelope.kind

-- name: by_sender
message.sender_local || CASE message.sender_domain WHEN '' THEN '' ELSE '@' || message.sender_domain END

-- name: by_error
CASE WHEN lane.parked OR envelope.error = '' THEN lane.last_error ELSE envelope.error END

-- name: by_client
message.address

-- name: by_login
message.login
