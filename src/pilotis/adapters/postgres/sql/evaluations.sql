-- name: add
INSERT INTO evaluation (id, env, bu, at, state, golden, digest, questions, config, figures, error, ordered, claimed_until)
VALUES (%(id)s, %(env)s, %(bu)s, %(at)s, %(state)s, %(golden)s, %(digest)s, %(questions)s, %(config)s, %(figures)s, %(error)s,
        %(ordered)s, NULL)
ON CONFLICT (id) DO NOTHING

-- name: finish
UPDATE evaluation SET state = %(state)s, config = %(config)s, figures = %(figures)s, error = %(error)s, ordered = NULL, claimed_until = NULL
WHERE id = %(id)s AND state IN ('waiting', 'running')
RETURNING id

-- name: add_question
INSERT INTO evaluation_question (evaluation_id, n, judged) VALUES (%s, %s, %s)

-- name: find
SELECT id, env, bu, at, state, golden, digest, questions, config, figures, error, is_baseline
FROM evaluation WHERE env = %(env)s AND starts_with(id::text, %(run)s)
ORDER BY at DESC LIMIT 2

-- name: questions
SELECT judged FROM evaluation_question WHERE evaluation_id = %(id)s ORDER BY n

-- name: list
SELECT id, env, bu, at, state, golden, digest, questions, config, figures, error, is_baseline
FROM evaluation
WHERE env = %(env)s AND (%(bu)s::text IS NULL OR bu = %(bu)s) AND (%(golden)s::text IS NULL OR golden = %(golden)s)
ORDER BY at DESC, id DESC LIMIT %(limit)s

-- name: latest
SELECT id, env, bu, at, state, golden, digest, questions, config, figures, error, is_baseline
FROM evaluation
WHERE env = %(env)s AND bu = %(bu)s AND golden = %(golden)s AND state = 'done' AND (%(before)s::timestamptz IS NULL OR at < %(before)s)
ORDER BY at DESC, id DESC LIMIT 1

-- name: baseline
SELECT id, env, bu, at, state, golden, digest, questions, config, figures, error, is_baseline
FROM evaluation WHERE env = %(env)s AND bu = %(bu)s AND golden = %(golden)s AND is_baseline

-- name: drop_baseline
UPDATE evaluation SET is_baseline = false WHERE env = %(env)s AND bu = %(bu)s AND golden = %(golden)s AND is_baseline

-- name: set_baseline
UPDATE evaluation SET is_baseline = true WHERE id = %(id)s

-- name: claim
UPDATE evaluation SET state = 'running', claimed_until = now() + make_interval(secs => %(lease_s)s)
WHERE id = (
    SELECT id FROM evaluation
    WHERE env = %(env)s AND ordered IS NOT NULL
      AND (state = 'waiting' OR (state = 'running' AND claimed_until < now()))
    ORDER BY at, id LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING id, env, bu, at, state, golden, digest, questions, config, figures, error, is_baseline, ordered

-- name: renew
UPDATE evaluation SET claimed_until = now() + make_interval(secs => %(lease_s)s)
WHERE starts_with(id::text, %(run)s) AND env = %(env)s AND state = 'running'

-- name: excerpts
-- One of each document before a second of any, in an order that the seed shuffles.
SELECT passage.id, document.name, document.collection, document.title, passage.headings, passage.language, passage.text
FROM (
    SELECT passage.key, document_id,
           row_number() OVER (PARTITION BY document_id ORDER BY md5(passage.id || %(seed)s)) AS turn,
           md5(document_id::text || %(seed)s) AS shuffled
    FROM passage JOIN document ON document.id = document_id
    WHERE document.bu = %(bu)s AND (%(collection)s::text IS NULL OR document.collection = %(collection)s)
      AND length(passage.text) >= %(characters)s
      AND passage.generation = (SELECT id FROM generation WHERE state = 'active')
    ORDER BY turn, shuffled
    LIMIT %(limit)s
) AS chosen
JOIN passage USING (key) JOIN document ON document.id = passage.document_id
ORDER BY chosen.turn, chosen.shuffled
