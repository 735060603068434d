-- name: share_epoch
SELECT epoch FROM counting WHERE env = %(env)s FOR SHARE

-- name: book
WITH stored AS (
    INSERT INTO ledger AS known (id, at, env, plane, bu, kind, subject, model, usage, cost_eur, price_book, fx, priced, key, step, estimated,
                                 instance, input_tokens, output_tokens, counted)
    SELECT id, at, env, plane, bu, kind, subject, model, usage, cost_eur, price_book, fx, priced, key, step, estimated,
           instance, input_tokens, output_tokens, %(counted)s
    FROM jsonb_to_recordset(%(events)s) AS event(
        id text, at timestamptz, env text, plane text, bu text, kind text, subject text, model text, usage jsonb, cost_eur numeric,
        price_book text, fx jsonb, priced boolean, key text, step text, estimated boolean, instance text,
        input_tokens bigint, output_tokens bigint)
    ORDER BY id
    ON CONFLICT (id) DO UPDATE SET counted = true WHERE NOT known.counted AND excluded.counted
    RETURNING xmax = 0 AS is_new, env, at, plane, bu, key, micro
), tallied AS (
    INSERT INTO tally AS known (env, quarter, plane, bu, key, micro)
    SELECT env, to_timestamp(floor(extract(epoch FROM at) / 900) * 900), plane, bu, coalesce(key, ''), sum(micro)
    FROM stored WHERE is_new
    GROUP BY 1, 2, 3, 4, 5
    ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (env, quarter, plane, bu, key) DO UPDATE SET micro = known.micro + excluded.micro
)
SELECT count(*) FROM stored WHERE is_new

-- name: uncounted
SELECT id, at, env, plane, bu, kind, subject, model, usage, cost_eur, price_book, fx, priced, key, step, estimated, instance
FROM ledger
WHERE NOT counted AND (%(env)s = '' OR env = %(env)s)
ORDER BY at, id
LIMIT %(limit)s

-- name: counted
UPDATE ledger SET counted = true WHERE id = ANY(%(ids)s) AND NOT counted

-- name: epoch
SELECT epoch FROM counting WHERE env = %(env)s

-- name: new_epoch
INSERT INTO counting (env, epoch) VALUES (%(env)s, gen_random_uuid()::text)
ON CONFLICT (env) DO UPDATE SET epoch = excluded.epoch
RETURNING epoch

-- name: recount
WITH marked AS (
    UPDATE ledger SET counted = true WHERE NOT counted AND (%(env)s = '' OR env = %(env)s)
)
SELECT span.n, grouping(plane, bu, key), plane, bu, key, sum(micro)::bigint
FROM unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) WITH ORDINALITY AS span(starts, ends, n)
JOIN tally ON quarter >= span.starts AND quarter < span.ends
WHERE %(env)s = '' OR env = %(env)s
GROUP BY GROUPING SETS ((span.n), (span.n, plane), (span.n, bu), (span.n, key))

-- name: spent
SELECT span.n, grouping(plane, bu, key), plane, bu, key, sum(micro)::bigint
FROM unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) WITH ORDINALITY AS span(starts, ends, n)
JOIN ledger ON at >= span.starts AND at < span.ends
WHERE %(env)s = '' OR env = %(env)s
GROUP BY GROUPING SETS ((span.n), (span.n, plane), (span.n, bu), (span.n, key))

-- name: total
SELECT count(*), coalesce(sum(cost_eur), 0) FROM ledger
WHERE (%(bu)s::text IS NULL OR bu = %(bu)s) AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)

-- name: report
SELECT ARRAY[{keys}]::text[] AS keys, count(*), coalesce(sum(cost_eur), 0), sum(input_tokens)::bigint, sum(output_tokens)::bigint,
       count(*) FILTER (WHERE NOT priced), count(*) FILTER (WHERE estimated)
FROM ledger
WHERE (%(since)s::timestamptz IS NULL OR at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
  AND (%(bu)s::text IS NULL OR bu = %(bu)s)
GROUP BY keys
ORDER BY keys

-- name: events
SELECT id, at, env, plane, bu, kind, subject, model, usage, cost_eur, price_book, fx, priced, key, step, estimated, instance
FROM ledger
WHERE (%(since)s::timestamptz IS NULL OR at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
  AND (%(bu)s::text IS NULL OR bu = %(bu)s)
  AND (%(after_at)s::timestamptz IS NULL OR (at, id) > (%(after_at)s, %(after_id)s::text COLLATE "C"))
ORDER BY at, id
LIMIT %(limit)s
