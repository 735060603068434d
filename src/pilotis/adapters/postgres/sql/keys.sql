-- name: create
INSERT INTO api_key (id, bu, name, prefix, digest, rights, expires_at, budget, rotated_from)
VALUES (%(id)s, %(bu)s, %(name)s, %(prefix)s, %(digest)s, %(rights)s, %(expires_at)s, %(budget)s, %(rotated_from)s)
RETURNING id, bu, name, prefix, created_at, revoked_at, rights, expires_at, budget

-- name: resolve
SELECT id, bu, name, prefix, created_at, revoked_at, rights, expires_at, budget FROM api_key WHERE digest = %(digest)s

-- name: list
SELECT id, bu, name, prefix, created_at, revoked_at, rights, expires_at, budget
FROM api_key WHERE %(bu)s::text IS NULL OR bu = %(bu)s ORDER BY created_at, id

-- name: revoke
UPDATE api_key SET revoked_at = coalesce(revoked_at, now()) WHERE id = %(id)s
RETURNING id, bu, name, prefix, created_at, revoked_at, rights, expires_at, budget

-- name: lock
SELECT id, bu, name, prefix, created_at, revoked_at, rights, expires_at, budget FROM api_key WHERE id = %(id)s FOR UPDATE

-- name: successor
SELECT prefix FROM api_key WHERE rotated_from = %(id)s

-- name: shorten
UPDATE api_key SET expires_at = least(expires_at, %(ends)s) WHERE id = %(id)s
