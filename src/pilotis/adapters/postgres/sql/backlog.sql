-- name: waiting
WITH ingest AS (
    SELECT bu, count(*) AS documents, min(received_at) AS since FROM document WHERE state IN ('received', 'parsing') GROUP BY bu
), embed AS (
    SELECT document.bu, count(*) AS documents, min(document.received_at) AS since, coalesce(sum(left_over.passages), 0)::bigint AS passages
    FROM document
    LEFT JOIN (SELECT document_id, count(*) AS passages FROM draft WHERE embedding IS NULL GROUP BY document_id) AS left_over
        ON left_over.document_id = document.id
    WHERE state = 'embedding' GROUP BY document.bu
), found AS (
    SELECT 'ingest' AS queue, bu, documents, 0::bigint AS passages, since FROM ingest
    UNION ALL SELECT 'embed', bu, documents, passages, since FROM embed
    UNION ALL SELECT 'failed', bu, count(*), 0, min(received_at) FROM document WHERE state = 'failed' GROUP BY bu
)
SELECT found.queue, found.bu, found.documents, found.passages, extract(epoch FROM now() - found.since)::float8,
       pause.paused_until, pause.reason
FROM found
LEFT JOIN LATERAL (
    SELECT paused_until, reason FROM turn
    WHERE turn.queue = found.queue AND turn.bu IN (found.bu, '*') AND turn.paused_until > now()
    ORDER BY paused_until DESC LIMIT 1
) AS pause ON true
ORDER BY found.queue, found.bu

-- name: pauses
SELECT queue, bu, paused_until, reason FROM turn WHERE paused_until > now() ORDER BY queue, bu

-- name: retry
UPDATE document
SET state = 'received', error = NULL, failed_in = NULL, attempts = 0, deaths = 0, next_try_at = now(), lease_until = NULL
WHERE state = 'failed' AND (%(bu)s::text IS NULL OR bu = %(bu)s) AND (%(ids)s::uuid[] IS NULL OR id = ANY(%(ids)s))

-- name: cancel
UPDATE document
SET failed_in = state, state = 'failed', error = %(error)s, lease_until = NULL, staged = NULL
WHERE bu = %(bu)s AND id = ANY(%(ids)s::uuid[]) AND state IN ('received', 'parsing', 'embedding')
RETURNING id

-- name: drop_drafts
DELETE FROM draft WHERE document_id = ANY(%(ids)s)

-- name: pause
INSERT INTO turn (queue, bu, paused_until, reason)
VALUES (%(queue)s, %(bu)s, coalesce(%(until)s::timestamptz, '9999-01-01 00:00+00'), %(reason)s)
ON CONFLICT (queue, bu) DO UPDATE SET paused_until = excluded.paused_until, reason = excluded.reason

-- name: resume
UPDATE turn SET paused_until = NULL, reason = NULL
WHERE paused_until > now() AND (%(queue)s::text IS NULL OR queue = %(queue)s) AND (%(bu)s::text IS NULL OR bu = %(bu)s)
