-- name: drop_drafts
DELETE FROM draft WHERE document_id = %(id)s

-- name: copy_drafts
COPY draft (document_id, version, ordinal, passage_id, text, indexed_text, headings, page, start_char, end_char, language, terms, weights)
FROM STDIN

-- name: reuse_vectors
-- A passage that did not change keeps its vector: editing one paragraph does not pay for the whole document again.
UPDATE draft SET embedding = entry.embedding
FROM passage JOIN entry USING (key)
WHERE draft.document_id = %(id)s AND passage.document_id = draft.document_id AND passage.id = draft.passage_id
  AND passage.indexed_text = draft.indexed_text AND passage.generation = %(generation)s

-- name: pending
-- A batch shared by the business units whose turn it is; within each, the documents that came first. See `documents.claim`.
WITH RECURSIVE unit AS (
    (SELECT bu FROM document WHERE state = 'embedding' ORDER BY bu LIMIT 1)
    UNION ALL
    SELECT (SELECT next.bu FROM document AS next WHERE next.state = 'embedding' AND next.bu > unit.bu ORDER BY next.bu LIMIT 1)
    FROM unit WHERE unit.bu IS NOT NULL
), turned AS MATERIALIZED (
    SELECT unit.bu, row_number() OVER (ORDER BY turn.served_at NULLS FIRST, unit.bu) AS place
    FROM unit LEFT JOIN turn ON turn.queue = 'embed' AND turn.bu = unit.bu
    WHERE unit.bu IS NOT NULL AND NOT EXISTS (
        SELECT FROM turn AS pause WHERE pause.queue = 'embed' AND pause.bu IN (unit.bu, '*') AND pause.paused_until > now()
    )
    ORDER BY turn.served_at NULLS FIRST, unit.bu
    LIMIT 16
), taken AS MATERIALIZED (
    SELECT share.document_id, share.ordinal, turned.bu
    FROM turned CROSS JOIN LATERAL (
        SELECT draft.document_id, draft.ordinal
        FROM document JOIN draft ON draft.document_id = document.id
        WHERE document.bu = turned.bu AND document.state = 'embedding'
          AND draft.embedding IS NULL AND (draft.claimed_until IS NULL OR draft.claimed_until < now())
        ORDER BY document.next_try_at, document.id, draft.ordinal
        LIMIT coalesce(%(share)s::float8, (SELECT ceil(%(limit)s::float8 / count(*)) FROM turned))
        FOR UPDATE OF draft SKIP LOCKED
    ) AS share
    ORDER BY turned.place
    LIMIT %(limit)s
), served AS (
    INSERT INTO turn (queue, bu, served_at) SELECT 'embed', bu, clock_timestamp() FROM (SELECT DISTINCT bu FROM taken ORDER BY bu) AS unit
    ON CONFLICT (queue, bu) DO UPDATE SET served_at = excluded.served_at
)
UPDATE draft SET claimed_until = now() + make_interval(secs => %(lease_s)s)
FROM taken WHERE draft.document_id = taken.document_id AND draft.ordinal = taken.ordinal
RETURNING draft.passage_id, draft.document_id, draft.version, taken.bu, draft.indexed_text

-- name: put_back
UPDATE draft SET claimed_until = NULL WHERE document_id = %s AND version = %s AND passage_id = %s

-- name: store_vector
UPDATE draft SET embedding = %s WHERE document_id = %s AND version = %s AND passage_id = %s

-- name: complete
SELECT id, version FROM document
WHERE id = ANY(%(ids)s) AND state = 'embedding'
  AND NOT EXISTS (SELECT FROM draft WHERE draft.document_id = document.id AND embedding IS NULL)
ORDER BY id

-- name: complete_anywhere
SELECT id, version FROM document
WHERE state = 'embedding' AND NOT EXISTS (SELECT FROM draft WHERE draft.document_id = document.id AND embedding IS NULL)
ORDER BY id LIMIT 100

-- name: count_terms
-- The difference between what goes (the document's passages) and what comes (its drafts), per term, in one order for all writers.
WITH change AS (
    SELECT term, sum(n)::integer AS n
    FROM (
        SELECT unnest(terms) AS term, 1 AS n FROM draft WHERE document_id = %(id)s
        UNION ALL
        SELECT unnest(entry.terms), -1 FROM entry JOIN passage USING (key)
        WHERE passage.document_id = %(id)s AND passage.generation = %(generation)s
    ) AS occurrence
    GROUP BY term HAVING sum(n) <> 0
    ORDER BY term
)
INSERT INTO lexeme AS known (generation, term, passages)
SELECT %(generation)s, term, n FROM change
ON CONFLICT (generation, term) DO UPDATE SET passages = known.passages + excluded.passages

-- name: forget_terms
DELETE FROM lexeme
WHERE generation = %(generation)s AND passages <= 0
  AND term IN (
      SELECT unnest(entry.terms) FROM entry JOIN passage USING (key)
      WHERE passage.document_id = %(id)s AND passage.generation = %(generation)s
  )

-- name: count_passages
INSERT INTO corpus AS known (generation, bu, passages)
SELECT %(generation)s, %(bu)s,
       (SELECT count(*) FROM draft WHERE document_id = %(id)s) - (SELECT count(*) FROM passage WHERE document_id = %(id)s AND generation = %(generation)s)
ON CONFLICT (generation, bu) DO UPDATE SET passages = known.passages + excluded.passages

-- name: drop_passages
DELETE FROM passage WHERE document_id = %(id)s AND generation = %(generation)s

-- name: publish
WITH moved AS (
    INSERT INTO passage (generation, id, document_id, ordinal, text, indexed_text, headings, page, start_char, end_char, language)
    SELECT %(generation)s, passage_id, document_id, ordinal, text, indexed_text, headings, page, start_char, end_char, language
    FROM draft WHERE document_id = %(id)s ORDER BY ordinal
    RETURNING key, id
)
INSERT INTO entry (key, generation, bu, collection, metadata, embedding, terms, weights)
SELECT moved.key, %(generation)s, document.bu, document.collection, document.metadata, draft.embedding, draft.terms, draft.weights
FROM moved
JOIN draft ON draft.passage_id = moved.id AND draft.document_id = %(id)s
JOIN document ON document.id = draft.document_id

-- name: search
-- Hybrid search. `asked`: the question's terms with their rarity (Lucene's idf, ln(1 + (N - n + 0.5) / (n + 0.5)), reduced). `question`: the same as one sparse vector, and the
-- rarest terms, as many as reach %(reach)s passages together: they alone nominate candidates, all terms score them. `dense`: the
-- nearest vectors. `scored`: both scores, exactly, for every candidate of either list, whichever list it came from.
WITH asked AS MATERIALIZED (
    SELECT lexeme.term, lexeme.passages,
           ln((greatest(corpus.passages, lexeme.passages) + 1) / (lexeme.passages + 0.5)) AS idf,
           sum(lexeme.passages) OVER (ORDER BY lexeme.passages, lexeme.term) AS reached,
           row_number() OVER (ORDER BY lexeme.passages, lexeme.term) AS rank
    FROM lexeme JOIN corpus USING (generation)
    WHERE generation = %(generation)s AND corpus.bu = %(bu)s AND lexeme.term = ANY(%(terms)s) AND lexeme.passages > 0
), question AS MATERIALIZED (
    SELECT ('{{' || string_agg(term || ':' || idf::real, ',') || '}}/1000000000')::sparsevec AS weights,
           -- The rarest alone may reach further, but where vectors nominate too not to a good part of a large corpus.
           array_agg(term) FILTER (
               WHERE reached <= %(reach)s OR (rank = 1 AND (%(vector)s::text IS NULL OR passages <= 10 * %(reach)s))
           ) AS rarest
    FROM asked HAVING count(*) > 0
), lexical AS (
    SELECT entry.key
    FROM question, entry
    WHERE entry.terms && question.rarest AND entry.generation = %(generation)s AND entry.bu = %(bu)s
      AND (%(collection)s::text IS NULL OR entry.collection = %(collection)s)
      AND (%(metadata)s::jsonb IS NULL OR entry.metadata @> %(metadata)s)
    ORDER BY entry.weights <#> question.weights
    LIMIT %(depth)s
), dense AS (
    SELECT entry.key
    FROM entry
    WHERE %(vector)s::text IS NOT NULL AND entry.generation = %(generation)s AND entry.bu = %(bu)s
      AND (%(collection)s::text IS NULL OR entry.collection = %(collection)s)
      AND (%(metadata)s::jsonb IS NULL OR entry.metadata @> %(metadata)s)
    ORDER BY entry.embedding::halfvec({dimension}) <#> %(vector)s::halfvec({dimension})
    LIMIT %(depth)s
), scored AS (
    SELECT entry.key,
           coalesce(-(entry.embedding::halfvec({dimension}) <#> %(vector)s::halfvec({dimension})), 0) AS dense,
           coalesce(-(entry.weights <#> (SELECT weights FROM question)), 0) AS lexical
    FROM (SELECT key FROM lexical UNION SELECT key FROM dense) AS candidate JOIN entry USING (key)
), fused AS (
    SELECT key, dense, lexical,
           coalesce((1 - %(dense_weight)s) * lexical / nullif(max(lexical) OVER (), 0), 0)
           + coalesce(%(dense_weight)s * dense / nullif(greatest(max(dense) OVER (), 0), 0), 0) AS score
    FROM scored ORDER BY score DESC, key LIMIT %(top_k)s
)
SELECT passage.id, passage.document_id, document.name, document.collection, document.title, passage.headings, passage.page,
       passage.start_char, passage.end_char, passage.language, passage.text, fused.score, fused.dense, fused.lexical
FROM fused JOIN passage USING (key) JOIN document ON document.id = passage.document_id
ORDER BY fused.score DESC, passage.id
