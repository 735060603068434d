-- name: hold_blob
INSERT INTO blob (sha256) VALUES (%(sha256)s) ON CONFLICT (sha256) DO UPDATE SET sha256 = excluded.sha256

-- name: register
INSERT INTO document (id, bu, collection, name, sha256, size, media_type, metadata)
VALUES (%(id)s, %(bu)s, %(collection)s, %(name)s, %(sha256)s, %(size)s, %(media_type)s, %(metadata)s)
ON CONFLICT (bu, collection, name) DO UPDATE
SET sha256 = excluded.sha256, size = excluded.size, media_type = excluded.media_type, metadata = excluded.metadata,
    state = 'received', version = document.version + 1, error = NULL, failed_in = NULL, attempts = 0, deaths = 0, staged = NULL,
    next_try_at = now(), lease_until = NULL, received_at = now()
WHERE (document.sha256, document.metadata) IS DISTINCT FROM (excluded.sha256, excluded.metadata) OR document.state = 'failed'
RETURNING *

-- name: by_name
SELECT * FROM document WHERE bu = %(bu)s AND collection = %(collection)s AND name = %(name)s

-- name: get
SELECT * FROM document WHERE bu = %(bu)s AND id = %(id)s

-- name: find
SELECT * FROM document
WHERE bu = %(bu)s
  AND (%(collection)s::text IS NULL OR collection = %(collection)s)
  AND (%(state)s::text IS NULL OR state = %(state)s)
  AND (%(after)s::uuid IS NULL
       OR (received_at, id) < (SELECT last.received_at, last.id FROM document AS last WHERE last.id = %(after)s AND last.bu = %(bu)s))
ORDER BY received_at DESC, id DESC
LIMIT %(limit)s

-- name: collections
SELECT collection, count(*) FROM document WHERE bu = %(bu)s GROUP BY collection ORDER BY collection

-- name: counts
SELECT state, count(*) FROM document
WHERE bu = %(bu)s AND (%(ids)s::uuid[] IS NULL OR id = ANY(%(ids)s))
GROUP BY state

-- name: lock
SELECT version, state FROM document WHERE id = %(id)s FOR UPDATE

-- name: lock_of
SELECT sha256 FROM document WHERE bu = %(bu)s AND id = %(id)s FOR UPDATE

-- name: delete
DELETE FROM document WHERE id = %(id)s

-- name: unreferenced
SELECT sha256 FROM blob WHERE NOT EXISTS (SELECT FROM document WHERE document.sha256 = blob.sha256) LIMIT 1000

-- name: lock_unreferenced
SELECT sha256 FROM blob
WHERE sha256 = %(sha256)s FOR UPDATE

-- name: is_referenced
SELECT EXISTS (SELECT FROM document WHERE sha256 = %(sha256)s)

-- name: adopt
INSERT INTO blob (sha256) SELECT DISTINCT unnest(%(digests)s::text[]) ON CONFLICT (sha256) DO NOTHING

-- name: drop_blob
DELETE FROM blob WHERE sha256 = %(sha256)s

-- name: claim
-- The oldest document of the business unit that has waited longest for its turn. `unit` leaps from one unit to the next in the
-- index: it reads as many entries as there are units, not as there are documents. `chosen` asks them in turn and stops at the first
-- that has one due: sorted afterwards, a document of every unit would be looked up, and locked, for the one that is taken.
WITH RECURSIVE unit AS (
    (SELECT bu FROM document WHERE state IN ('received', 'parsing') ORDER BY bu LIMIT 1)
    UNION ALL
    SELECT (SELECT next.bu FROM document AS next WHERE next.state IN ('received', 'parsing') AND next.bu > unit.bu ORDER BY next.bu LIMIT 1)
    FROM unit WHERE unit.bu IS NOT NULL
), turned AS MATERIALIZED (
    SELECT unit.bu
    FROM unit LEFT JOIN turn ON turn.queue = 'ingest' AND turn.bu = unit.bu
    WHERE unit.bu IS NOT NULL AND NOT EXISTS (
        SELECT FROM turn AS pause WHERE pause.queue = 'ingest' AND pause.bu IN (unit.bu, '*') AND pause.paused_until > now()
    )
    ORDER BY turn.served_at NULLS FIRST, unit.bu
), chosen AS MATERIALIZED (
    SELECT turned.bu, due.id
    FROM turned CROSS JOIN LATERAL (
        SELECT id FROM document
        WHERE document.bu = turned.bu AND state IN ('received', 'parsing') AND next_try_at <= now()
          AND (lease_until IS NULL OR lease_until < now())
        ORDER BY next_try_at, id
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) AS due
    LIMIT 1
), served AS (
    INSERT INTO turn (queue, bu, served_at) SELECT 'ingest', bu, clock_timestamp() FROM chosen
    ON CONFLICT (queue, bu) DO UPDATE SET served_at = excluded.served_at
)
UPDATE document
-- One that is still being parsed when its lease has run out took its worker with it.
SET state = 'parsing', attempts = attempts + 1, deaths = deaths + (state = 'parsing')::integer,
    lease_until = now() + make_interval(secs => %(lease_s)s)
WHERE id = (SELECT id FROM chosen)
RETURNING *

-- name: renew
UPDATE document SET lease_until = now() + make_interval(secs => %(lease_s)s)
WHERE id = %(id)s AND version = %(version)s AND attempts = %(attempts)s AND state = 'parsing'

-- name: staged
UPDATE document
SET state = 'embedding', lease_until = NULL, error = NULL,
    staged = jsonb_build_object('title', %(title)s::text, 'language', %(language)s::text, 'pages', %(pages)s::integer,
        'warnings', %(warnings)s::jsonb)
WHERE id = %(id)s

-- name: fail
UPDATE document
SET state = CASE WHEN %(retry_in_s)s::float8 IS NULL THEN 'failed' ELSE 'received' END,
    error = %(error)s, lease_until = NULL, staged = NULL, failed_in = state,
    next_try_at = now() + make_interval(secs => coalesce(%(retry_in_s)s::float8, 0))
WHERE id = %(id)s AND version = %(version)s AND state IN ('received', 'parsing', 'embedding')

-- name: remark
-- One order for all writers, and no waiting for those who write just now: it is said again at the next try.
UPDATE document SET error = %(error)s::text
WHERE id IN (
    SELECT id FROM document
    WHERE state = 'embedding' AND bu = ANY(%(bus)s) AND error IS DISTINCT FROM %(error)s::text
    ORDER BY id FOR UPDATE SKIP LOCKED
)

-- name: take_time
-- For the transactions whose length is the document's: cut off, they would be tried again without end.
SET LOCAL statement_timeout = 0

-- name: published
UPDATE document
SET state = 'indexed', error = NULL, failed_in = NULL, indexed_at = now(), passages = %(passages)s,
    title = staged->>'title', language = staged->>'language', pages = (staged->>'pages')::integer,
    warnings = ARRAY(SELECT jsonb_array_elements_text(coalesce(staged->'warnings', '[]'))), staged = NULL
WHERE id = %(id)s

-- name: note_purge
INSERT INTO purge (bu, document_id) VALUES (%(bu)s, %(id)s)

-- name: to_purge
SELECT n, bu, document_id::text FROM purge ORDER BY n LIMIT %(limit)s

-- name: purged
DELETE FROM purge WHERE n = ANY(%(numbers)s)
