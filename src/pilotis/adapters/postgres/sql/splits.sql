-- name: wanted
SELECT stable, candidate, weight FROM split WHERE env = %(env)s

-- name: want
INSERT INTO split (env, stable, candidate, weight) VALUES (%(env)s, %(stable)s, %(candidate)s, %(weight)s)
ON CONFLICT (env) DO UPDATE SET stable = excluded.stable, candidate = excluded.candidate, weight = excluded.weight

-- name: seen
SELECT instance, url, release, stable, candidate, weight, inside, at FROM seen
WHERE env = %(env)s AND at >= clock_timestamp() - make_interval(secs => %(within_s)s) ORDER BY instance

-- name: report
INSERT INTO seen (env, instance, url, release, stable, candidate, weight, inside, at)
VALUES (%(env)s, %(instance)s, %(url)s, %(release)s, %(stable)s, %(candidate)s, %(weight)s, %(inside)s, clock_timestamp())
ON CONFLICT (env, instance) DO UPDATE
SET url = excluded.url, release = excluded.release, stable = excluded.stable, candidate = excluded.candidate,
    weight = excluded.weight, inside = excluded.inside, at = excluded.at

-- name: count
INSERT INTO traffic AS known (env, release, begins, instance, requests, errors, latency, paid, cost_eur, cost_sq, saturation)
VALUES (%(env)s, %(of)s, to_timestamp(floor(extract(epoch FROM clock_timestamp()) / 5) * 5), %(instance)s,
        %(requests)s, %(errors)s, %(latency)s, %(paid)s, %(cost_eur)s, %(cost_sq)s, %(saturation)s)
ON CONFLICT (env, release, begins, instance) DO UPDATE
SET requests = known.requests + excluded.requests, errors = known.errors + excluded.errors,
    latency = (SELECT array_agg(a + b ORDER BY i) FROM unnest(known.latency, excluded.latency) WITH ORDINALITY AS both_(a, b, i)),
    paid = known.paid + excluded.paid, cost_eur = known.cost_eur + excluded.cost_eur, cost_sq = known.cost_sq + excluded.cost_sq,
    saturation = greatest(known.saturation, excluded.saturation)

-- name: traffic
WITH asked AS (
    SELECT * FROM traffic WHERE env = %(env)s AND release = %(release)s AND begins >= %(since)s AND begins < %(until)s
), summed AS (
    SELECT array_agg(sum ORDER BY i) AS latency
    FROM (SELECT i, sum(v)::bigint AS sum FROM asked, unnest(latency) WITH ORDINALITY AS each(v, i) GROUP BY i) AS by_bound
)
SELECT coalesce(sum(requests), 0)::bigint, coalesce(sum(errors), 0)::bigint, (SELECT latency FROM summed),
       coalesce(sum(paid), 0)::bigint, coalesce(sum(cost_eur), 0), coalesce(sum(cost_sq), 0), max(saturation)
FROM asked

-- name: examined
INSERT INTO examination (env, rollout, release, question, hit)
SELECT %(env)s, %(rollout)s, %(release)s, question, hit FROM unnest(%(questions)s::text[], %(hits)s::boolean[]) AS each(question, hit)
ON CONFLICT (env, rollout, release, question) DO UPDATE SET hit = excluded.hit

-- name: examinations
SELECT release, question, hit FROM examination WHERE env = %(env)s AND rollout = %(rollout)s

-- name: trim
-- now() and not clock_timestamp(): an index is searched only for what does not change within the statement.
WITH old AS (DELETE FROM traffic WHERE begins < now() - interval '32 days')
DELETE FROM seen WHERE at < now() - interval '1 day'
