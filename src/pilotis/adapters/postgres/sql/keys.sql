-- name: create
INSERT INTO api_key (id, bu, name, prefix, digest) VALUES (%(id)s, %(bu)s, %(name)s, %(prefix)s, %(digest)s)
RETURNING id, bu, name, prefix, created_at, revoked_at

-- name: resolve
SELECT id, bu, name, prefix, created_at, revoked_at FROM api_key WHERE digest = %(digest)s

-- name: list
SELECT id, bu, name, prefix, created_at, revoked_at FROM api_key WHERE %(bu)s::text IS NULL OR bu = %(bu)s ORDER BY created_at, id

-- name: revoke
UPDATE api_key SET revoked_at = coalesce(revoked_at, now()) WHERE id = %(id)s
RETURNING id, bu, name, prefix, created_at, revoked_at
