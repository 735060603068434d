-- name: states
SELECT scope, level, since, reason, recovering, trips, version FROM guardrail WHERE env = %(env)s ORDER BY scope

-- name: move
-- One statement: the level changes only with its audit line, and only from the version it was decided on.
WITH before AS (
    SELECT level FROM guardrail WHERE env = %(env)s AND scope = %(scope)s
), moved AS (
    INSERT INTO guardrail AS known (env, scope, level, since, reason, recovering, trips, version)
    SELECT %(env)s, %(scope)s, %(level)s, %(since)s, %(reason)s, %(recovering)s, %(trips)s, %(version)s
    WHERE %(version)s = 1 OR EXISTS (SELECT FROM before)
    ON CONFLICT (env, scope) DO UPDATE
    SET level = excluded.level, since = excluded.since, reason = excluded.reason, recovering = excluded.recovering,
        trips = excluded.trips, version = excluded.version
    WHERE known.version = excluded.version - 1
    RETURNING 1
)
INSERT INTO guardrail_move (at, env, scope, from_level, to_level, actor, reason, figures)
SELECT %(since)s, %(env)s, %(scope)s, (SELECT level FROM before), %(level)s, %(actor)s, %(reason)s, %(figures)s FROM moved
RETURNING n

-- name: history
SELECT at, scope, from_level, to_level, actor, reason, figures
FROM guardrail_move
WHERE env = %(env)s AND (%(scope)s::text IS NULL OR scope = %(scope)s)
ORDER BY n DESC
LIMIT %(limit)s

-- name: evidence
-- Read once, by the index on time: the window is bounded before each scope's own beginning is looked at.
WITH seen AS (
    SELECT ledger.bu,
           count(*) FILTER (WHERE at >= greatest(%(since)s, moved.since)) AS answers,
           sum(cost_eur) FILTER (WHERE at >= greatest(%(since)s, moved.since)) AS cost_eur,
           count(*) FILTER (WHERE at >= %(env_since)s) AS env_answers,
           sum(cost_eur) FILTER (WHERE at >= %(env_since)s) AS env_cost_eur
    FROM ledger
    LEFT JOIN unnest(%(scopes)s::text[], %(sinces)s::timestamptz[]) AS moved(scope, since) ON moved.scope = 'bu:' || ledger.bu
    WHERE at >= %(since)s AND env = %(env)s AND plane = 'online' AND kind = 'answer'
    GROUP BY ledger.bu, moved.since
)
SELECT 'bu:' || bu, answers, cost_eur FROM seen WHERE answers > 0
UNION ALL
SELECT 'env', coalesce(sum(env_answers), 0)::bigint, coalesce(sum(env_cost_eur), 0) FROM seen
