-- Each statement named with a check counts what it looked at, and what is wrong with some examples.

-- name: passages_without_entry
SELECT (SELECT count(*) FROM passage), count(*), (array_agg(id))[1:5]
FROM passage
WHERE NOT EXISTS (
    SELECT FROM entry WHERE entry.key = passage.key AND entry.generation = passage.generation
)

-- name: entries_without_passage
SELECT (SELECT count(*) FROM entry), count(*), (array_agg(key::text))[1:5]
FROM entry WHERE NOT EXISTS (SELECT FROM passage WHERE passage.key = entry.key)

-- name: passages_without_document
SELECT (SELECT count(*) FROM passage), count(*), (array_agg(id))[1:5]
FROM passage WHERE NOT EXISTS (SELECT FROM document WHERE document.id = passage.document_id)

-- name: entries_unlike_document
SELECT (SELECT count(*) FROM entry), count(*), (array_agg(passage.id))[1:5]
FROM entry JOIN passage USING (key) JOIN document ON document.id = passage.document_id
WHERE (entry.bu, entry.collection) <> (document.bu, document.collection)
   OR (document.state = 'indexed' AND entry.metadata <> document.metadata)

-- name: drafts_left
SELECT (SELECT count(*) FROM draft), count(*), (array_agg(passage_id))[1:5]
FROM draft LEFT JOIN document ON document.id = draft.document_id
WHERE document.id IS NULL OR document.state <> 'embedding' OR document.version <> draft.version

-- name: documents_miscounted
SELECT (SELECT count(*) FROM document), count(*), (array_agg(document.id::text))[1:5]
FROM document LEFT JOIN (
    SELECT document_id, count(*) AS n FROM passage
    WHERE generation = (SELECT id FROM generation WHERE state = 'active') GROUP BY document_id
) AS counted ON document_id = document.id
WHERE document.passages <> coalesce(n, 0)

-- name: documents_insane
SELECT (SELECT count(*) FROM document), count(*), (array_agg(id::text))[1:5]
FROM document
WHERE (state = 'indexed' AND (passages = 0 OR indexed_at IS NULL OR staged IS NOT NULL OR lease_until IS NOT NULL))
   OR (state = 'failed' AND (error IS NULL OR lease_until IS NOT NULL))
   OR (state = 'embedding' AND (staged IS NULL OR NOT EXISTS (SELECT FROM draft WHERE draft.document_id = document.id)))

-- name: documents_stuck
-- What waits longer than any pause or lease lasts while nobody works on anything of the kind.
SELECT (SELECT count(*) FROM document WHERE state NOT IN ('indexed', 'failed')), count(*), (array_agg(id::text))[1:5]
FROM document
WHERE (state = 'parsing' AND lease_until < now() - interval '15 minutes')
   OR (state = 'received' AND next_try_at < now() - interval '1 hour'
       AND NOT EXISTS (SELECT FROM document WHERE state = 'parsing' AND lease_until > now()))
   OR (state = 'embedding' AND received_at < now() - interval '1 hour'
       AND NOT EXISTS (SELECT FROM draft WHERE claimed_until > now() - interval '15 minutes'))

-- name: documents_without_blob_row
SELECT (SELECT count(*) FROM document), count(*), (array_agg(id::text))[1:5]
FROM document WHERE NOT EXISTS (SELECT FROM blob WHERE blob.sha256 = document.sha256)

-- name: lexemes_miscounted
WITH counted AS (
    SELECT generation, term, count(*) AS n FROM entry, unnest(terms) AS term GROUP BY generation, term
)
SELECT count(*), count(*) FILTER (WHERE coalesce(n, 0) <> coalesce(passages, 0)),
       (array_agg(term::text) FILTER (WHERE coalesce(n, 0) <> coalesce(passages, 0)))[1:5]
FROM counted FULL JOIN lexeme USING (generation, term)

-- name: corpora_miscounted
WITH counted AS (SELECT generation, bu, count(*) AS n FROM entry GROUP BY generation, bu)
SELECT count(*), count(*) FILTER (WHERE coalesce(n, 0) <> coalesce(passages, 0)),
       (array_agg(bu) FILTER (WHERE coalesce(n, 0) <> coalesce(passages, 0)))[1:5]
FROM counted FULL JOIN corpus USING (generation, bu)

-- name: tallies_miscounted
WITH counted AS (
    SELECT env, to_timestamp(floor(extract(epoch FROM at) / 900) * 900) AS quarter, plane, bu, coalesce(key, '') AS key, sum(micro) AS n
    FROM ledger GROUP BY 1, 2, 3, 4, 5
)
SELECT count(*), count(*) FILTER (WHERE coalesce(n, 0) <> coalesce(micro, 0)),
       (array_agg(quarter || ' ' || bu) FILTER (WHERE coalesce(n, 0) <> coalesce(micro, 0)))[1:5]
FROM counted FULL JOIN tally USING (env, quarter, plane, bu, key)

-- name: blobs
SELECT sha256, EXISTS (SELECT FROM document WHERE document.sha256 = known.sha256)
FROM (SELECT sha256 FROM blob UNION SELECT sha256 FROM document) AS known

-- name: sample
SELECT document.bu, coalesce(document.title, document.name), passage.language, entry.embedding::real[], passage.id
FROM (
    SELECT key FROM passage WHERE generation = (SELECT id FROM generation WHERE state = 'active') ORDER BY random() LIMIT %(count)s
) AS chosen
JOIN passage USING (key) JOIN entry USING (key) JOIN generation ON generation.id = entry.generation AND generation.state = 'active'
JOIN document ON document.id = passage.document_id

-- name: known
SELECT id::text FROM document WHERE id = ANY(%(ids)s::uuid[]) UNION SELECT document_id::text FROM purge
