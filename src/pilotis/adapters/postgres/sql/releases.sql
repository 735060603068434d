-- name: add
INSERT INTO release (env, id, settings, contract, author, created_at, image, generation, note)
VALUES (%(env)s, %(id)s, %(settings)s, %(contract)s, %(author)s, %(created_at)s, %(image)s, %(generation)s, %(note)s)
ON CONFLICT (env, id) DO NOTHING

-- name: find
SELECT id, env, settings, contract, author, created_at, image, generation, note
FROM release WHERE env = %(env)s AND starts_with(id, %(id)s) ORDER BY id LIMIT 2

-- name: list
SELECT id, env, settings, contract, author, created_at, image, generation, note
FROM release WHERE env = %(env)s ORDER BY n DESC LIMIT %(limit)s

-- name: stable
SELECT release FROM stable_release WHERE env = %(env)s

-- name: set_stable
INSERT INTO stable_release (env, release) VALUES (%(env)s, %(stable)s)
ON CONFLICT (env) DO UPDATE SET release = excluded.release

-- name: rollouts
SELECT body, state, version FROM rollout
WHERE env = %(env)s AND (%(id)s::text IS NULL OR id = %(id)s) ORDER BY n DESC LIMIT %(limit)s

-- name: begin
INSERT INTO rollout (env, id, state, has_ended, version, body)
VALUES (%(env)s, %(id)s, %(state)s, %(has_ended)s, %(version)s, %(body)s)
ON CONFLICT DO NOTHING
RETURNING 1

-- name: swap
UPDATE rollout SET state = %(state)s, has_ended = %(has_ended)s, version = %(version)s, body = %(body)s
WHERE env = %(env)s AND id = %(id)s AND version = %(version)s - 1
  AND NOT EXISTS (SELECT FROM release_lease WHERE env = %(env)s AND fence > %(fence)s)
RETURNING 1

-- name: lease
INSERT INTO release_lease AS known (env, holder, fence, ends_at)
VALUES (%(env)s, %(holder)s, 1, clock_timestamp() + make_interval(secs => %(ttl_s)s))
ON CONFLICT (env) DO UPDATE
SET holder = excluded.holder, ends_at = excluded.ends_at, fence = known.fence + (known.holder <> excluded.holder)::integer
WHERE known.holder = excluded.holder OR known.ends_at < clock_timestamp()
RETURNING fence

-- name: approve
INSERT INTO approval (env, rollout, role, by, at, expires_at, evidence, signature)
VALUES (%(env)s, %(rollout)s, %(role)s, %(by)s, %(at)s, %(expires_at)s, %(evidence)s, %(signature)s)
ON CONFLICT (env, rollout, role) DO UPDATE
SET by = excluded.by, at = excluded.at, expires_at = excluded.expires_at, evidence = excluded.evidence, signature = excluded.signature

-- name: approvals
SELECT rollout, role, by, at, expires_at, evidence, signature FROM approval
WHERE env = %(env)s AND rollout = %(rollout)s ORDER BY role

-- name: found_trail
INSERT INTO trail_head (env, n, hash) VALUES (%(env)s, 0, '') ON CONFLICT DO NOTHING

-- name: head
SELECT n, hash, clock_timestamp() FROM trail_head WHERE env = %(env)s FOR UPDATE

-- name: add_line
WITH added AS (
    INSERT INTO trail (env, n, rollout, line, hash) VALUES (%(env)s, %(n)s, %(rollout)s, %(line)s, %(hash)s)
)
UPDATE trail_head SET n = %(n)s, hash = %(hash)s WHERE env = %(env)s

-- name: trail
SELECT line, hash, n FROM (
    SELECT n, line, hash FROM trail WHERE env = %(env)s AND (%(rollout)s::text IS NULL OR rollout = %(rollout)s)
    ORDER BY n DESC LIMIT %(limit)s
) AS latest ORDER BY n

-- name: last
SELECT n, hash FROM trail_head WHERE env = %(env)s
