-- name: active
SELECT id, model, dimension, state, embedder, passage_tokens, passage_overlap FROM generation WHERE state = 'active'

-- name: all
SELECT id, model, dimension, state, embedder, passage_tokens, passage_overlap, created_at, activated_at, retired_at,
       (SELECT coalesce(sum(passages), 0) FROM corpus WHERE corpus.generation = generation.id)::bigint,
       CASE WHEN state = 'active' THEN 0 ELSE (
           SELECT count(*) FROM document WHERE document.state = 'indexed' AND NOT EXISTS (
               SELECT FROM built WHERE built.generation = generation.id AND built.document_id = document.id AND built.version = document.version
           )
       ) END,
       (SELECT count(*) FROM built WHERE built.generation = generation.id AND built.error IS NOT NULL)
FROM generation ORDER BY id DESC

-- name: create
INSERT INTO generation (model, dimension, analysis, state, embedder, passage_tokens, passage_overlap)
VALUES (%(model)s, %(dimension)s, %(analysis)s, 'building', %(embedder)s, %(passage_tokens)s, %(passage_overlap)s)
RETURNING id

-- name: characters
SELECT coalesce(sum(length(indexed_text)), 0)::bigint
FROM passage WHERE generation = (SELECT id FROM generation WHERE state = 'active')

-- name: left
SELECT document.* FROM document
WHERE state = 'indexed' AND NOT EXISTS (
    SELECT FROM built WHERE built.generation = %(generation)s AND built.document_id = document.id AND built.version = document.version
)
ORDER BY id LIMIT %(limit)s

-- name: failures
SELECT document.*, built.error AS why FROM built JOIN document ON document.id = built.document_id
WHERE built.generation = %(generation)s AND built.error IS NOT NULL ORDER BY document.id LIMIT %(limit)s

-- name: count_terms
-- The terms of a document's passages in one generation, added or taken away, in one order for all writers.
INSERT INTO lexeme AS known (generation, term, passages)
SELECT %(generation)s, term, %(sign)s * count(*)
FROM (
    SELECT unnest(entry.terms) AS term FROM entry JOIN passage USING (key)
    WHERE passage.document_id = %(id)s AND passage.generation = %(generation)s
) AS occurrence
GROUP BY term ORDER BY term
ON CONFLICT (generation, term) DO UPDATE SET passages = known.passages + excluded.passages

-- name: count_passages
INSERT INTO corpus AS known (generation, bu, passages)
SELECT %(generation)s, %(bu)s, %(sign)s * count(*) FROM passage WHERE document_id = %(id)s AND generation = %(generation)s
HAVING count(*) > 0
ON CONFLICT (generation, bu) DO UPDATE SET passages = known.passages + excluded.passages

-- name: take_out
DELETE FROM passage WHERE document_id = %(id)s AND generation = %(generation)s

-- name: forget_terms
DELETE FROM lexeme
WHERE generation = %(generation)s AND passages <= 0 AND term IN (
    SELECT unnest(entry.terms) FROM entry JOIN passage USING (key)
    WHERE passage.document_id = %(id)s AND passage.generation = %(generation)s
)

-- name: forget_corpus
DELETE FROM corpus WHERE generation = %(generation)s AND bu = %(bu)s AND passages <= 0

-- name: is_active
-- Held until the transaction ends: a switch waits for it.
SELECT FROM generation WHERE id = %(generation)s AND state = 'active' FOR SHARE

-- name: put_in
WITH given AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(passages)s) AS one(
        ordinal integer, id text, text text, indexed_text text, headings jsonb, page integer, start_char integer, end_char integer,
        language text, terms jsonb, weights text, embedding text)
), moved AS (
    INSERT INTO passage (generation, id, document_id, ordinal, text, indexed_text, headings, page, start_char, end_char, language)
    SELECT %(generation)s, id, %(id)s, ordinal, text, indexed_text, ARRAY(SELECT jsonb_array_elements_text(headings)), page,
           start_char, end_char, language
    FROM given ORDER BY ordinal
    RETURNING key, id
)
INSERT INTO entry (key, generation, bu, collection, metadata, embedding, terms, weights)
SELECT moved.key, %(generation)s, document.bu, document.collection, document.metadata, given.embedding::halfvec,
       ARRAY(SELECT jsonb_array_elements_text(given.terms)::integer), given.weights::sparsevec
FROM moved JOIN given USING (id) JOIN document ON document.id = %(id)s

-- name: built
INSERT INTO built (generation, document_id, version, passages, error)
VALUES (%(generation)s, %(id)s, %(version)s, %(count)s, %(error)s)
ON CONFLICT (generation, document_id)
DO UPDATE SET version = excluded.version, passages = excluded.passages, error = excluded.error

-- name: retire
UPDATE generation SET state = 'retired', retired_at = now() WHERE state = 'active' AND id <> %(generation)s RETURNING id

-- name: remember
-- What the retired one holds, so that a way back has only to catch up.
INSERT INTO built (generation, document_id, version, passages)
SELECT %(before)s, id, version, passages FROM document WHERE state = 'indexed'
ON CONFLICT (generation, document_id) DO UPDATE SET version = excluded.version, passages = excluded.passages, error = NULL

-- name: recount
UPDATE document SET passages = built.passages
FROM built WHERE built.generation = %(generation)s AND built.document_id = document.id AND document.passages <> built.passages

-- name: begin_again
-- Passages on their way were cut for, and partly embedded with, the model of before.
UPDATE document SET state = 'received', staged = NULL, lease_until = NULL, next_try_at = now(), attempts = 0
WHERE state IN ('parsing', 'embedding')

-- name: activate
UPDATE generation SET state = 'active', activated_at = now(), retired_at = NULL WHERE id = %(generation)s

-- name: shed
DELETE FROM passage WHERE key IN (SELECT key FROM passage WHERE generation = %(generation)s LIMIT %(limit)s)

-- name: drop
WITH terms AS (DELETE FROM lexeme WHERE generation = %(generation)s), units AS (DELETE FROM corpus WHERE generation = %(generation)s),
     held AS (DELETE FROM built WHERE generation = %(generation)s)
SELECT 1
