-- Every statement that runs once the tables are there; schema.sql makes them. Codes of states: 0 ready, 1 inflight, 2 held, 3 damaged;
-- kind 0 is mail, above 0 are reports; asked: 1 hold, 2 remove, 3 held for its key. "json_each" spreads a list of row ids over one statement.

-- name: get_fact
SELECT value FROM meta WHERE name = ?;

-- name: set_fact
INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: forget_fact
DELETE FROM meta WHERE name = ?;

-- name: get_time_mark
SELECT boot_id, boottime_ms, wall, spool_ms FROM time_mark WHERE id = 1;

-- name: last_ended
SELECT ended FROM attempt WHERE id = (SELECT max(id) FROM attempt);

-- name: set_time_mark
INSERT OR REPLACE INTO time_mark (id, boot_id, boottime_ms, wall, spool_ms) VALUES (1, ?, ?, ?, ?);

-- name: insert_message
INSERT INTO message (
    name, sender_local, sender_domain, arrived, received_at, size, body_kind, envid, ret,
    address, host, helo, protocol, login, uid, checksum, file, last_ordinal, compression, key_id, salt
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_drop
INSERT INTO drop_seen (name, at) VALUES (?, ?);

-- name: insert_body
INSERT INTO body (message, content) VALUES (?, ?);

-- name: insert_recipient
INSERT INTO recipient (message, number, local, domain, orcpt, notify, notify_given) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: insert_envelope
INSERT INTO envelope (
    message, ordinal, recipient, local, domain, user, extension, target, lane, kind, state, due, deadline, warn_at
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?);

-- name: find_lane
SELECT id FROM lane WHERE action = ? AND key = ?;

-- name: insert_lane
INSERT INTO lane (action, key) VALUES (?, ?);

-- name: refresh_lanes
-- At the end of a transaction: when each lane that it touched has something due. Rows that do not change are not written.
UPDATE lane SET next_due = fresh.due
FROM (
    SELECT touched.value AS id,
        (SELECT due FROM envelope WHERE lane = touched.value AND state = 0 ORDER BY due LIMIT 1) AS due
    FROM json_each(?) AS touched
) AS fresh
WHERE lane.id = fresh.id AND lane.next_due IS NOT fresh.due;

-- name: drop_finished
-- At the end of a transaction: of the messages that it touched, those without an envelope go, body and recipients with them.
DELETE FROM message
WHERE id IN (SELECT value FROM json_each(?)) AND NOT EXISTS (SELECT 1 FROM envelope WHERE message = message.id)
RETURNING file;

-- name: due_lanes
-- A page of open lanes of one action whose route works or fails, earliest first, after (wake, id).
SELECT id, action, key, wake, failures FROM lane
WHERE action = ? AND failing = ? AND wake <= ? AND (wake, id) > (?, ?)
ORDER BY wake, id LIMIT ?;

-- name: newest_due_lanes
SELECT id, action, key, wake, failures FROM lane
WHERE action = ? AND failing = ? AND wake <= ?
ORDER BY wake DESC, id DESC LIMIT ?;

-- name: lane_actions
-- Every action that has a lane: a jump from one to the next, whatever the number of lanes.
WITH RECURSIVE found (action) AS (
    SELECT min(action) FROM lane
    UNION ALL
    SELECT (SELECT min(action) FROM lane WHERE action > found.action) FROM found WHERE found.action IS NOT NULL
)
SELECT action FROM found WHERE action IS NOT NULL;

-- name: next_wake
SELECT wake FROM lane WHERE wake > ? ORDER BY wake LIMIT 1;

-- name: claimable
-- The next due envelopes of a lane, if the lane is open.
SELECT id FROM envelope
WHERE lane = ?1 AND state = 0 AND due <= ?2
    AND EXISTS (SELECT 1 FROM lane WHERE id = ?1 AND NOT paused AND NOT parked AND not_before <= ?2)
ORDER BY due LIMIT ?3;

-- name: envelopes
SELECT envelope.id, envelope.message, envelope.ordinal, envelope.local, envelope.domain, user, extension, target,
    lane, kind, state, due, deadline, warn_at, attempts, recovered,
    recipient.local, recipient.domain, orcpt, notify, notify_given
FROM envelope LEFT JOIN recipient ON recipient.message = envelope.message AND number = envelope.recipient
WHERE envelope.id IN (SELECT value FROM json_each(?));

-- name: get_lane
SELECT action, key FROM lane WHERE id = ?;

-- name: messages
SELECT id, name, sender_local, sender_domain, arrived, received_at, size, body_kind, envid, ret,
    address, host, helo, protocol, login, uid, checksum, file, content, compression, key_id, salt
FROM message LEFT JOIN body ON body.message = message.id
WHERE id IN (SELECT value FROM json_each(?));

-- name: lock_envelope
-- Held until the key of its body is at hand.
UPDATE envelope SET state = 2, asked = 3, error = ? WHERE id = ?;

-- name: locked_page
-- Held envelopes after an id, with the key that they are held for, if they are.
SELECT envelope.id, lane, CASE asked WHEN 3 THEN key_id END
FROM envelope LEFT JOIN message ON message.id = envelope.message
WHERE state > 1 AND state = 2 AND envelope.id > ? ORDER BY envelope.id LIMIT ?;

-- name: count_keys
-- How many bodies are sealed with which key.
SELECT key_id, count(*) FROM message WHERE key_id IS NOT NULL GROUP BY key_id;

-- name: mark_inflight
UPDATE envelope SET state = 1, since = ? WHERE id IN (SELECT value FROM json_each(?));

-- name: inflight
-- One envelope in flight, with what its history and its report will say of it.
SELECT envelope.id, message.id, message.name, ordinal, lane, kind, asked, arrived, deadline, recipient,
    sender_local, sender_domain, envelope.local, envelope.domain, user, extension, target,
    recipient.local, recipient.domain, notify
FROM message JOIN envelope ON envelope.message = message.id
    LEFT JOIN recipient ON recipient.message = message.id AND number = envelope.recipient
WHERE message.name = ? AND ordinal = ? AND state = 1;

-- name: insert_attempt
INSERT INTO attempt (
    message, ordinal, sender, recipient, destination, event, started, ended, route,
    outcome, code, status, text, remote, stage, dsn_passed_on
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: delete_envelope
DELETE FROM envelope WHERE id = ?;

-- name: defer_envelope
-- Back from an attempt: READY, or HELD when that was asked meanwhile.
UPDATE envelope SET state = CASE asked WHEN 1 THEN 2 ELSE 0 END, asked = 0,
    due = ?, warn_at = ?, last_try = ?, error = ?, attempts = attempts + 1
WHERE id = ?;

-- name: unclaim_envelope
UPDATE envelope SET state = CASE asked WHEN 1 THEN 2 ELSE 0 END, asked = 0 WHERE id = ?;

-- name: open_report
-- A report about a message that waits and so can take another line.
SELECT id FROM envelope WHERE message = ? AND kind > 0 AND kind = ? AND state IN (0, 2) LIMIT 1;

-- name: next_ordinal
UPDATE message SET last_ordinal = last_ordinal + 1 WHERE id = ? RETURNING last_ordinal, sender_local, sender_domain;

-- name: insert_report
INSERT INTO report (
    envelope, message, recipient, local, domain, user, extension, target, event, at, deadline,
    outcome, code, status, text, remote, stage, dsn_passed_on
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: report_lines
SELECT recipient.local, recipient.domain, orcpt, notify, notify_given,
    report.local, report.domain, user, extension, target, event, at, deadline,
    outcome, code, status, text, remote, stage, dsn_passed_on
FROM report JOIN recipient ON recipient.message = report.message AND number = report.recipient
WHERE envelope = ? ORDER BY report.id;

-- name: lane_failed
UPDATE lane SET failures = failures + 1, last_failure = ?, not_before = ?, last_error = ? WHERE id = ?;

-- name: lane_opened
UPDATE lane SET failures = 0, not_before = 0, last_error = '' WHERE id = ? AND (failures OR not_before);

-- name: overdue
-- Waiting envelopes of a lane whose deadline has passed, earliest first.
SELECT id FROM envelope WHERE lane = ? AND state = 0 AND deadline <= ? ORDER BY deadline LIMIT ?;

-- name: unwarned
-- Waiting envelopes whose sender is owed a delay notice, earliest first, with why they wait and since when that is known.
SELECT envelope.id, lane, CASE WHEN error = '' THEN last_error ELSE error END, coalesce(last_try, last_failure) FROM envelope JOIN lane ON lane.id = lane
WHERE state = 0 AND warn_at IS NOT NULL AND warn_at <= ? ORDER BY warn_at LIMIT ?;

-- name: attempts_of
-- What came of all attempts for a message's envelopes, the newest last.
SELECT ordinal, ended, outcome, code, status, text, remote, stage, dsn_passed_on FROM attempt WHERE message = ? ORDER BY id;

-- name: subjects
-- Envelopes as their history and their reports will speak of them.
SELECT envelope.id, message.id, message.name, ordinal, lane, kind, asked, arrived, deadline, recipient,
    sender_local, sender_domain, envelope.local, envelope.domain, user, extension, target,
    recipient.local, recipient.domain, notify
FROM envelope JOIN message ON message.id = envelope.message
    LEFT JOIN recipient ON recipient.message = message.id AND number = envelope.recipient
WHERE envelope.id IN (SELECT value FROM json_each(?));

-- name: set_warn_at
UPDATE envelope SET warn_at = ? WHERE id = ?;

-- name: lane_trouble
SELECT last_error FROM lane WHERE id = ?;

-- name: find_envelope
SELECT envelope.id, message.id, lane, state, asked FROM message JOIN envelope ON envelope.message = message.id
WHERE message.name = ? AND ordinal = ?;

-- name: damage_envelope
UPDATE envelope SET state = 3, asked = 0, error = ? WHERE id = ?;

-- name: set_intent
INSERT OR REPLACE INTO intent (envelope, path, device, inode, offset, length, checksum) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: get_intent
SELECT path, device, inode, offset, length, intent.checksum
FROM message JOIN envelope ON envelope.message = message.id JOIN intent ON intent.envelope = envelope.id
WHERE message.name = ? AND ordinal = ?;

-- name: stranded
-- What an earlier start had in flight.
SELECT id, message, lane, asked, since FROM envelope WHERE state = 1;

-- name: recover_envelope
UPDATE envelope SET state = CASE asked WHEN 1 THEN 2 ELSE 0 END, asked = 0, recovered = 1 WHERE id = ?;

-- name: newest_envelope
SELECT max(id) FROM envelope;

-- name: messages_like
-- Messages whose id begins like this: from the beginning itself up to whatever sorts after all its continuations.
SELECT id, name, last_ordinal FROM message WHERE name >= ? AND name < ? LIMIT 2;

-- name: window_end
-- The last of the next envelopes, whatever gaps there are between their ids.
SELECT max(id) FROM (SELECT id FROM envelope WHERE id > ? AND id <= ? ORDER BY id LIMIT ?);

-- name: ask
-- What to do with an envelope in flight once its attempt has ended.
UPDATE envelope SET asked = ?1 WHERE asked <> ?1 AND id IN (SELECT value FROM json_each(?2));

-- name: set_state
-- What was damaged or held for its key has its reason forgotten.
UPDATE envelope SET state = ?, asked = 0, error = CASE WHEN state = 3 OR asked = 3 THEN '' ELSE error END
WHERE id IN (SELECT value FROM json_each(?));

-- name: make_due
UPDATE envelope SET due = ?1 WHERE due > ?1 AND id IN (SELECT value FROM json_each(?2));

-- name: open_lanes
UPDATE lane SET not_before = 0 WHERE not_before > 0 AND id IN (SELECT value FROM json_each(?));

-- name: lane_page
-- What is in a lane in one state, by due time, after (due, id).
SELECT due, id FROM envelope WHERE lane = ? AND state = ? AND (due, id) > (?, ?) ORDER BY due, id LIMIT ?;

-- name: destinations
SELECT id, local, domain, user, extension, target FROM envelope
WHERE kind = 0 AND id IN (SELECT value FROM json_each(?));

-- name: move_to_lane
UPDATE envelope SET lane = ? WHERE id IN (SELECT value FROM json_each(?));

-- name: set_ttl
UPDATE envelope SET deadline = (SELECT arrived FROM message WHERE message.id = envelope.message) + ?
WHERE kind = 0 AND id IN (SELECT value FROM json_each(?));

-- name: lanes
SELECT id, action, key, next_due, not_before, failures, last_failure, last_error, paused, parked
FROM lane WHERE id > ? ORDER BY id LIMIT ?;

-- name: pause_lane
UPDATE lane SET paused = ? WHERE id = ?;

-- name: park_lane
UPDATE lane SET parked = ?, last_error = ? WHERE id = ?;

-- name: is_body_file
SELECT 1 FROM message WHERE name = ? AND file IS NOT NULL;

-- name: prune_attempts
-- Among the oldest rows of history, those that ended before a time; and all that are more than the history may hold.
DELETE FROM attempt WHERE id <= (
    SELECT max(id) FROM (SELECT id, ended FROM attempt ORDER BY id LIMIT ?1)
    WHERE ended < ?2 OR id <= (SELECT max(id) FROM attempt) - ?3
);

-- name: prune_drops
DELETE FROM drop_seen WHERE id <= (
    SELECT max(id) FROM (SELECT id, at FROM drop_seen ORDER BY id LIMIT ?1) WHERE at < ?2
);

-- name: lane_ids
SELECT id FROM lane WHERE id > ? ORDER BY id LIMIT ?;

-- name: prune_lanes
-- Of these lanes, the ones that nothing is known of and nothing waits in.
DELETE FROM lane
WHERE id IN (SELECT value FROM json_each(?1)) AND next_due IS NULL AND NOT paused AND NOT parked AND NOT failures
    AND NOT EXISTS (SELECT 1 FROM envelope WHERE lane = lane.id);

-- name: queue_page
-- A page of the queue by message id and ordinal, after (name, ordinal) and before another name.
SELECT envelope.id FROM message CROSS JOIN envelope ON envelope.message = message.id
WHERE name >= ?1 AND name < ?2 AND (name > ?1 OR ordinal > ?3)
ORDER BY name, ordinal LIMIT ?4;

-- name: queue_entries
-- See QueueEntry.
SELECT envelope.id, name, ordinal, kind, state, asked, sender_local, sender_domain, recipient.local, recipient.domain,
    envelope.local, envelope.domain, user, extension, target, action, key, address, login, uid,
    arrived, received_at, size, due, deadline, attempts, since, last_try, error,
    not_before, last_error, paused, parked
FROM envelope LEFT JOIN message ON message.id = envelope.message
    LEFT JOIN lane ON lane.id = lane
    LEFT JOIN recipient ON recipient.message = message.id AND number = envelope.recipient
WHERE envelope.id IN (SELECT value FROM json_each(?));

-- name: brief_entries
-- What QueueReader.brief tells of these envelopes in their order, as JSON, and how many they are. Left out is what has to be looked at more
-- closely: what read_entry does not take, and addresses with a local part that has to be quoted (see spool.address).
SELECT count(*), json_group_array(json_array(
    name, size, CAST(received_at AS INTEGER),
    CASE WHEN kind > 0 THEN '' WHEN sender_domain = '' THEN sender_local ELSE sender_local || '@' || sender_domain END,
    CASE state WHEN 0 THEN 'ready' WHEN 1 THEN 'inflight' WHEN 2 THEN 'held' ELSE 'damaged' END,
    CASE WHEN envelope.domain = '' THEN envelope.local ELSE envelope.local || '@' || envelope.domain END,
    CASE WHEN parked OR error = '' THEN last_error ELSE error END
))
FROM json_each(?) AS page CROSS JOIN envelope ON envelope.id = page.value
    CROSS JOIN message ON message.id = envelope.message CROSS JOIN lane ON lane.id = lane
    CROSS JOIN (SELECT '*[' || char(1) || '- "(),:;<>@[\' || char(127) || ']*' AS special)
WHERE kind BETWEEN 0 AND 5 AND state BETWEEN 0 AND 3
    AND (kind > 0 OR EXISTS (SELECT 1 FROM recipient WHERE recipient.message = message.id AND number = envelope.recipient))
    AND sender_local || envelope.local NOT GLOB special AND NOT instr(sender_local || envelope.local, ']')
    AND NOT instr('.' || envelope.local || iif(sender_local = '', '', '.' || sender_local) || '.', '..');

-- name: damaged_page
SELECT id FROM envelope WHERE state > 1 AND state = 3 AND id > ? ORDER BY id LIMIT ?;

-- name: stray_page
-- What was set aside because its message is not there.
SELECT id FROM envelope
WHERE state > 1 AND state = 3 AND id > ? AND NOT EXISTS (SELECT 1 FROM message WHERE id = envelope.message)
ORDER BY id LIMIT ?;

-- name: reports_page
SELECT id FROM envelope WHERE kind > 0 AND id > ? ORDER BY id LIMIT ?;

-- name: attempts_like
-- The history of a message, whether or not it is still there, in the order it was written.
SELECT message, ordinal, sender, recipient, destination, event, started, ended, route,
    outcome, code, status, text, remote, stage, dsn_passed_on
FROM attempt WHERE message >= ? AND message < ? ORDER BY message, id LIMIT ?;

-- name: count_by_lane
SELECT lane, count(*) FROM envelope WHERE lane BETWEEN ? AND ? GROUP BY lane;

-- name: count_by_state
-- In one walk through the smallest index that knows states, without sorting it. NULL when there is none.
SELECT sum(state = 0), sum(state = 1), sum(state = 2), sum(state = 3) FROM envelope;

-- name: count_messages
SELECT count(*) FROM message;

-- name: count_reports
SELECT count(*) FROM envelope WHERE kind > 0;

-- name: places
SELECT envelope.id, name, ordinal FROM message JOIN envelope ON envelope.message = message.id
WHERE envelope.id IN (SELECT value FROM json_each(?));

-- name: tables
SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY name;

-- name: envelope_page
SELECT id, state FROM envelope WHERE id > ? ORDER BY id LIMIT ?;

-- name: lanes_of
-- The lanes, as far as they are there, of a page of envelopes.
SELECT lane.id FROM (SELECT lane FROM envelope WHERE id > ? ORDER BY id LIMIT ?) AS page JOIN lane ON lane.id = page.lane;

-- name: has_message
SELECT 1 FROM message WHERE id = ?;

-- name: forsaken_messages
-- Messages without an envelope: the last one should have taken them along.
SELECT id, name FROM message
WHERE id > ? AND NOT EXISTS (SELECT 1 FROM envelope WHERE message = message.id) ORDER BY id LIMIT ?;

-- name: empty_reports
-- Reports that are about nobody and wait all the same.
SELECT envelope.id, name, ordinal FROM envelope JOIN message ON message.id = message
WHERE kind BETWEEN 1 AND 5 AND envelope.id > ? AND state IN (0, 2)
    AND NOT EXISTS (SELECT 1 FROM report WHERE report.envelope = envelope.id)
ORDER BY envelope.id LIMIT ?;

-- name: lanes_and_their_due
-- What lanes believe they have to do next, and what is true.
SELECT id, action, key, next_due, (SELECT due FROM envelope WHERE lane = lane.id AND state = 0 ORDER BY due LIMIT 1)
FROM lane WHERE id > ? ORDER BY id LIMIT ?;

-- name: state_of
SELECT state, lane FROM envelope WHERE id = ?;

-- name: body_files
-- Messages whose body lies in a file.
SELECT id, name FROM message WHERE file IS NOT NULL AND id > ? ORDER BY id LIMIT ?;

-- name: lanes_of_message
SELECT lane FROM envelope WHERE message = (SELECT id FROM message WHERE name = ?);

-- name: forget_envelopes
DELETE FROM envelope WHERE message = (SELECT id FROM message WHERE name = ?);

-- name: forget_message
DELETE FROM message WHERE name = ?;

-- name: count_damaged
SELECT count(*) FROM (SELECT 1 FROM envelope WHERE state > 1 AND state = 3 LIMIT ?);

-- name: moving_envelopes
-- What an archive says of some envelopes of a message.
SELECT envelope.id, ordinal, recipient, local, domain, user, extension, target, action, key,
    kind, state, due, deadline, warn_at, attempts, recovered, last_try, error
FROM envelope JOIN lane ON lane.id = lane
WHERE message = ? AND ordinal IN (SELECT value FROM json_each(?)) ORDER BY ordinal;

-- name: moving_recipients
SELECT number, local, domain, orcpt, notify, notify_given FROM recipient WHERE message = ? ORDER BY number;

-- name: moving_report
SELECT recipient, local, domain, user, extension, target, event, at, deadline,
    outcome, code, status, text, remote, stage, dsn_passed_on
FROM report WHERE envelope = ? ORDER BY id;

-- name: moving_attempts
SELECT ordinal, sender, recipient, destination, event, started, ended, route,
    outcome, code, status, text, remote, stage, dsn_passed_on
FROM attempt WHERE message = ? AND ordinal IN (SELECT value FROM json_each(?)) ORDER BY id;

-- name: was_taken
SELECT 1 FROM drop_seen WHERE name = ?;

-- name: find_message
SELECT 1 FROM message WHERE name = ?;

-- name: insert_moved
INSERT INTO envelope (
    message, ordinal, recipient, local, domain, user, extension, target, lane, kind, state, due, deadline, warn_at,
    attempts, recovered, last_try, error
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);
