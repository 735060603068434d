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
SELECT at, scope, from_level, to_level, actor, reason, figures FROM guardrail_move WHERE env = %(env)s ORDER BY n DESC LIMIT %(limit)s

-- name: evidence
SELECT coalesce('bu:' || bu, 'env'), count(*), sum(cost_eur)
FROM ledger
LEFT JOIN unnest(%(scopes)s::text[], %(sinces)s::timestamptz[]) AS moved(scope, since) ON moved.scope = 'bu:' || bu
WHERE env = %(env)s AND plane = 'online' AND kind = 'answer' AND at >= greatest(%(since)s, moved.since)
GROUP BY bu
UNION ALL
SELECT 'env', count(*), coalesce(sum(cost_eur), 0)
FROM ledger
WHERE env = %(env)s AND plane = 'online' AND kind = 'answer' AND at >= greatest(%(since)s, %(env_since)s)
