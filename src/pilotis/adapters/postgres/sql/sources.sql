-- name: known
-- A row without a digest is of a run that died between registering a document and noting it: the document is found by its name.
SELECT item.key, item.bu, item.collection, item.name, item.sha256, item.size, item.validator,
       coalesce(document.id, unnoted.id)::text AS document_id,
       coalesce(document.state, unnoted.state) AS state, item.brought, item.seen_at
FROM source_item AS item
LEFT JOIN document ON document.id = item.document_id AND document.bu = item.bu
LEFT JOIN document AS unnoted
       ON item.sha256 IS NULL AND item.brought
      AND (unnoted.bu, unnoted.collection, unnoted.name) = (item.bu, item.collection, item.name)
WHERE item.source = %(source)s
ORDER BY item.key

-- name: begin
INSERT INTO source_item AS item (bu, collection, name, source, key, brought)
VALUES (%(bu)s, %(collection)s, %(name)s, %(source)s, %(key)s,
        NOT EXISTS (SELECT FROM document WHERE bu = %(bu)s AND collection = %(collection)s AND name = %(name)s))
ON CONFLICT (bu, collection, name) DO UPDATE
SET source = excluded.source, key = excluded.key,
    -- Noted and never brought, or brought by a source that is no more: it stays what it was. Else the document was deleted since.
    brought = excluded.brought OR (item.brought AND (item.sha256 IS NULL OR item.source <> excluded.source)),
    sha256 = CASE WHEN item.source <> excluded.source THEN item.sha256 END,
    document_id = CASE WHEN item.source <> excluded.source THEN item.document_id END,
    validator = NULL, seen_at = now()
WHERE (item.source = excluded.source AND item.key = excluded.key) OR item.source <> ALL(%(sources)s)
RETURNING key, bu, collection, name, size, validator, brought, seen_at,
    (SELECT sha256 FROM document WHERE bu = %(bu)s AND collection = %(collection)s AND name = %(name)s) AS sha256

-- name: holder_of_name
SELECT source, key FROM source_item WHERE bu = %(bu)s AND collection = %(collection)s AND name = %(name)s

-- name: keep
UPDATE source_item
SET sha256 = %(sha256)s, size = %(size)s, validator = %(validator)s, document_id = %(document_id)s, brought = %(brought)s,
    seen_at = now()
WHERE bu = %(bu)s AND collection = %(collection)s AND name = %(name)s AND source = %(source)s

-- name: seen
UPDATE source_item SET seen_at = now()
WHERE source = %(source)s AND bu = %(bu)s AND collection = %(collection)s AND name = ANY(%(names)s)

-- name: move_document
-- Its passages and vectors stay. With another media type it may read differently and is parsed again, which reuses vectors.
UPDATE document
SET name = %(name)s, media_type = %(media_type)s,
    state = CASE WHEN media_type = %(media_type)s THEN state ELSE 'received' END,
    version = version + (media_type <> %(media_type)s)::integer,
    error = CASE WHEN media_type = %(media_type)s THEN error END,
    attempts = CASE WHEN media_type = %(media_type)s THEN attempts ELSE 0 END,
    deaths = CASE WHEN media_type = %(media_type)s THEN deaths ELSE 0 END,
    staged = CASE WHEN media_type = %(media_type)s THEN staged END,
    lease_until = CASE WHEN media_type = %(media_type)s THEN lease_until END,
    next_try_at = CASE WHEN media_type = %(media_type)s THEN next_try_at ELSE now() END
WHERE id = %(id)s AND bu = %(bu)s AND collection = %(collection)s AND sha256 = %(sha256)s
RETURNING state

-- name: move_item
UPDATE source_item
SET name = %(name)s, key = %(key)s, validator = %(validator)s, seen_at = now()
WHERE bu = %(bu)s AND collection = %(collection)s AND name = %(old_name)s AND source = %(source)s

-- name: drop
DELETE FROM source_item
WHERE bu = %(bu)s AND collection = %(collection)s AND name = %(name)s AND source = %(source)s

-- name: lead
-- A run that died is begun again as soon as its lease is out, one that failed after a while; neither waits for a day.
INSERT INTO source_run AS run (source, holder, lease_until)
VALUES (%(source)s, %(holder)s, now() + make_interval(secs => %(lease_s)s))
ON CONFLICT (source) DO UPDATE
SET holder = excluded.holder, lease_until = excluded.lease_until, began_at = now()
WHERE (run.lease_until IS NULL OR run.lease_until < now())
  AND (%(every_s)s::float8 IS NULL OR now() >= run.began_at + make_interval(secs => CASE
          WHEN run.finished_at IS NULL OR run.finished_at < run.began_at THEN least(%(every_s)s, %(again_s)s)
          WHEN NOT run.succeeded THEN least(%(every_s)s, %(failed_s)s)
          ELSE %(every_s)s END))
RETURNING 1

-- name: renew
UPDATE source_run SET lease_until = now() + make_interval(secs => %(lease_s)s)
WHERE source = %(source)s AND holder = %(holder)s AND lease_until IS NOT NULL

-- name: finish
UPDATE source_run SET lease_until = NULL, finished_at = now(), report = %(report)s, succeeded = %(succeeded)s
WHERE source = %(source)s AND holder = %(holder)s AND lease_until IS NOT NULL

-- name: runs
SELECT run.source, run.began_at, run.finished_at, coalesce(run.lease_until > now(), false) AS leads, run.report
FROM source_run AS run ORDER BY run.source

-- name: brought
SELECT item.source, document.state, count(*)
FROM source_item AS item JOIN document ON document.id = item.document_id
GROUP BY item.source, document.state
